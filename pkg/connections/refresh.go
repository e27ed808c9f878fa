package connections

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/store"
)

const (
	// A token is refreshed when a part of its life is over, between the two: while there is time to try again, and not at one moment for accounts that connected together.
	refreshFrom, refreshTo = 0.7, 0.85
	// margin is how long a token is good yet when it is given out: for a call, and clocks that differ.
	margin = time.Minute
	// storedLead is how long before its end a token is refreshed that another process obtained.
	storedLead = 8 * time.Minute

	firstPause, longestPause = time.Second, 5 * time.Minute
	// refreshesAtOnce is how many calls for tokens an app makes at one time: after a long stop all of its accounts need one.
	refreshesAtOnce = 32
	// refusedFor is how long a refused token counts as one of several in a row. It is longer than any pause between two.
	refusedFor = 2 * longestPause
	// ownPause is how soon it is tried again where the app's configuration is wrong: a secret may be put right in HubSpot, too.
	ownPause = time.Minute
)

// ownFault says that HubSpot refuses the app, not the account.
type ownFault struct{ err *refusal }

func (e *ownFault) Error() string {
	return fmt.Sprintf("hubspot refuses the app itself: %v: compare client_id, client_secret and redirect_url with the app's page in HubSpot", e.err)
}
func (e *ownFault) Unwrap() error { return e.err }

// flight is a refresh that is under way, for all who wait for it.
type flight struct{ done chan struct{} }

// jitter is d, or up to a quarter less.
func jitter(d time.Duration) time.Duration { return d - time.Duration(rand.Int64N(int64(d)/4+1)) }

// Token returns an access token for hub that is good for a minute at least; hub "" stands for the one that the account is connected to now. Many may ask at once: one call is
// made for all of them. Errors are made by destinations.Block and destinations.RetryAfter; ctx's own when that ends.
func (s *Service) Token(ctx context.Context, appName, account, hub string) (config.Secret, error) {
	a := s.find(id{appName, account})
	if a == nil {
		return "", blocked(ErrNotConnected)
	}
	for tries := 0; ; tries++ {
		token, f, err := s.tokenNow(a, hub, tries == 0)
		if f == nil {
			return token, err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

func blocked(err error) error {
	return destinations.Block(err, destinations.AccountScope, time.Time{})
}

// tokenNow returns a token, an error, or what is to be waited for. begins says whether it may begin a refresh that the caller needs.
func (s *Service) tokenNow(a *account, hub string, begins bool) (config.Secret, *flight, error) {
	ap := s.app(a.id.app)
	now := s.opts.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.row.Hub == "":
		return "", nil, blocked(ErrNotConnected)
	case hub != "" && hub != a.row.Hub:
		return "", nil, blocked(fmt.Errorf("the account is connected to hub %s now, and no more to %s", a.row.Hub, hub))
	case Status(a.row.Status) != Connected:
		return "", nil, blocked(fmt.Errorf("the account has to connect anew: %s", a.row.Reason))
	case ap == nil:
		return "", nil, blocked(fmt.Errorf("%w: %s is not in the configuration", ErrNoApp, a.id.app))
	}
	usable := a.tokens.Access != "" && now.Before(a.tokens.Expires.Add(-margin))
	if usable && now.Before(a.refreshAt) {
		return a.tokens.Access, nil, nil
	}
	if a.flight == nil && !now.Before(a.retryAt) && (begins || usable) {
		s.beginLocked(a, ap)
	}
	switch {
	case usable: // and the refresh is for the next ones
		return a.tokens.Access, nil, nil
	case a.flight != nil:
		return "", a.flight, nil
	case a.failed == nil: // another's refresh has brought a token that was refused since
		return "", nil, destinations.RetryAfter(errors.New("the access token was refused once more"), firstPause)
	default:
		return "", nil, a.waitLocked(now)
	}
}

// waitLocked is the error while no refresh goes through.
func (a *account) waitLocked(now time.Time) error {
	if own, ok := errors.AsType[*ownFault](a.failed); ok {
		return destinations.Block(own, destinations.AccountScope, a.retryAt)
	}
	return destinations.RetryAfter(a.failed, max(a.retryAt.Sub(now), 0))
}

// beginLocked begins a refresh.
func (s *Service) beginLocked(a *account, ap *app) {
	f := &flight{done: make(chan struct{})}
	if !s.fly(func() { s.refresh(a, ap, f) }) {
		a.failed, a.retryAt = errStopping, s.opts.Now().Add(firstPause)
		return
	}
	a.flight = f
}

// refresh is a flight: it goes on when those who wait for it are gone, for what HubSpot answers must not be lost.
func (s *Service) refresh(a *account, ap *app, f *flight) {
	h := s.hub(a.id.app, a.hubName())
	if h == nil { // it disconnected meanwhile
		h = newHub()
	}
	land := func() {
		a.mu.Lock()
		a.flight = nil
		a.mu.Unlock()
		close(f.done)
	}
	// The account's own turn comes last: who chooses or disconnects does not wait for others of the hub, nor of the app.
	ok := s.inTurns(func() {
		changed := s.renew(a, ap, h)
		land()
		if changed != nil {
			s.tell(*changed)
		}
	}, h.turn, ap.calls, a.turn)
	if !ok {
		a.mu.Lock()
		a.failed, a.retryAt = errStopping, s.opts.Now().Add(firstPause)
		a.mu.Unlock()
		land()
	}
}

// inTurns does something when it has all of some turns, one after the other; false: the router stops, and nobody waits in a queue for that.
func (s *Service) inTurns(do func(), turns ...chan struct{}) bool {
	for _, turn := range turns {
		select {
		case <-s.closing:
			return false
		default:
		}
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
		case <-s.closing:
			return false
		}
	}
	do()
	return true
}

// renew asks HubSpot for another access token of an account whose turn is held, and that of the hub that it has. The change, if there is one, is to be told.
func (s *Service) renew(a *account, ap *app, h *hub) *Change {
	ctx := context.Background()
	a.mu.Lock()
	row, held := a.row, a.tokens
	a.mu.Unlock()
	if Status(row.Status) != Connected || held.Refresh == "" || s.hub(a.id.app, row.Hub) != h {
		return nil // it disconnected meanwhile, or has connected another hub
	}
	asked := s.opts.Now()
	g, err := s.token(ctx, ap, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {string(held.Refresh)}})
	if refused, ok := errors.AsType[*refusal](err); ok && refused.revoked() {
		s.metrics.refreshes.WithLabelValues(a.id.app, "reconnect_needed").Inc()
		return s.lost(a, row, "HubSpot says that the app may not use the account any more ("+refused.code+")", refused.Error())
	}
	if err == nil && g.hub != "" && g.hub != row.Hub {
		err = fmt.Errorf("hubspot answers with a token of another account, %s instead of %s", g.hub, row.Hub)
	}
	if err != nil {
		s.refreshFailed(a, err)
		return nil
	}
	old := held.Refresh
	if g.refresh != "" {
		held.Refresh = g.refresh
	}
	held.Access, held.Expires = g.access, asked.Add(g.lifetime)
	row.Expires = held.Expires
	if g.scopes != nil { // they are the app's in the hub, whoever of its people, or of its accounts, granted it last
		row.Scopes = g.scopes
	}
	if err := s.keep(a, func() error { return s.put(ctx, row, held) }); err != nil {
		s.refreshFailed(a, fmt.Errorf("keep the new tokens: %w", err))
		return nil
	}
	s.metrics.refreshes.WithLabelValues(a.id.app, "ok").Inc()
	if held.Refresh != old {
		s.rotated(a, row.Hub, old, held.Refresh)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokens, a.row.Expires, a.row.Scopes = held, held.Expires, row.Scopes
	a.refreshAt = refreshTime(asked, g.lifetime)
	a.failed, a.failures, a.retryAt = nil, 0, time.Time{}
	return nil
}

// rotated gives a new refresh token to the other accounts of the hub that had the old one, which HubSpot does not take any more. HubSpot has one for an app in a hub, whoever
// of its people granted it. The hub's turn is held. It is called in a flight, and so Close waits for what it writes.
func (s *Service) rotated(from *account, hub string, old, fresh config.Secret) {
	for _, a := range s.ofHub(from.id.app, hub) {
		if a == from {
			continue
		}
		a.mu.Lock()
		had := a.tokens.Refresh == old
		if had {
			a.tokens.Refresh = fresh
		}
		a.mu.Unlock()
		if had {
			s.flights.Go(func() { s.keepRotated(a, fresh) })
		}
	}
}

// keepRotated writes an account's refresh token down when nobody changes the account, who might write the old one.
func (s *Service) keepRotated(a *account, fresh config.Secret) {
	a.turn <- struct{}{} // it is held for the time of a call
	defer a.release()
	a.mu.Lock()
	row, held := a.row, a.tokens
	a.mu.Unlock()
	if held.Refresh != fresh {
		return // it disconnected, connected anew, or has got a newer one
	}
	if err := s.keep(a, func() error { return s.put(context.Background(), row, held) }); err != nil {
		s.opts.Logger.Error("a new refresh token is not written down", "app", a.id.app, "account", a.id.account, "error", err.Error())
	}
}

func refreshTime(obtained time.Time, lifetime time.Duration) time.Time {
	part := refreshFrom + (refreshTo-refreshFrom)*rand.Float64()
	return obtained.Add(time.Duration(part * float64(lifetime)))
}

// keep writes what HubSpot has answered, again and again while there is no room on the disk: it may have made what was there before invalid.
func (s *Service) keep(a *account, put func() error) error {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := put()
		if err == nil || !errors.Is(err, store.ErrFull) {
			return err
		}
		s.opts.Logger.Error("new tokens can not be written: they are used as soon as they are", "app", a.id.app, "account", a.id.account, "error", err.Error())
		select {
		case <-s.closing:
			return err
		case <-time.After(pause):
		}
	}
}

// refreshFailed notes that there is no new token for now.
func (s *Service) refreshFailed(a *account, err error) {
	now := s.opts.Now()
	a.mu.Lock()
	pause := min(firstPause<<min(a.failures, 10), longestPause)
	a.mu.Unlock()
	outcome := "failed"
	refused, ok := errors.AsType[*refusal](err)
	switch {
	case ok && refused.ours():
		err, pause, outcome = &ownFault{refused}, ownPause, "refused"
		s.tellOwnFault(a.id.app, err)
	case ok:
		pause = max(pause, refused.after)
		if destinations.AnsweredByGateway(refused.status) {
			err = destinations.Unavailable(err)
		}
	default:
		err = destinations.Unavailable(err)
	}
	s.metrics.refreshes.WithLabelValues(a.id.app, outcome).Inc()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failures++
	a.failed, a.retryAt = err, now.Add(jitter(pause))
	a.row.LastError, a.row.LastErrorAt, a.noted = err.Error(), now, false
}

// tellOwnFault logs that HubSpot refuses an app, once a minute: thousands of accounts meet it together.
func (s *Service) tellOwnFault(appName string, err error) {
	ap := s.app(appName)
	if ap == nil || !ap.mayTell(s.opts.Now()) {
		return
	}
	s.opts.Logger.Error("no account of the app gets a token: its configuration is wrong", "app", appName, "error", err.Error())
}

// lost notes that an account has to connect anew. The account's turn is held; the caller tells of the change.
func (s *Service) lost(a *account, row store.Connection, reason, lastError string) *Change {
	now := s.opts.Now()
	row.Status, row.Reason, row.Changed, row.Expires = string(ReconnectNeeded), reason, now, time.Time{}
	row.LastError, row.LastErrorAt = lastError, now
	c := &Change{App: a.id.app, Account: a.id.account, Hub: row.Hub, WasHub: row.Hub, Status: ReconnectNeeded, Reason: reason, At: now}
	if err := s.keep(a, func() error { return s.put(context.Background(), row, tokens{}, s.notice(c)...) }); err != nil {
		s.opts.Logger.Error("that an account has to connect anew is not written down", "app", a.id.app, "account", a.id.account, "error", err.Error())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	row.LastDelivery, row.Choices = a.row.LastDelivery, a.row.Choices
	a.row, a.tokens, a.failed, a.failures, a.retryAt = row, tokens{}, nil, 0, time.Time{}
	s.opts.Logger.Warn("an account has to connect anew; what is for it waits", "app", a.id.app, "account", a.id.account, "hub", row.Hub, "reason", reason)
	return c
}

// Refused says that HubSpot has answered to a token that it is not valid (401). The next Token is another one, or an error: one refresh is made at once; when HubSpot refuses
// one token after the other, later ones wait.
func (s *Service) Refused(appName, account string, token config.Secret) {
	a := s.find(id{appName, account})
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if token == "" || a.tokens.Access != token {
		return // another call has said so, or it is an old one
	}
	now := s.opts.Now()
	a.tokens.Access = ""
	if now.Sub(a.refusedAt) > refusedFor { // calls of others went through, which nobody tells of
		a.refused = 0
	}
	a.refused, a.refusedAt = a.refused+1, now
	if a.refused > 1 {
		a.failed = destinations.Unavailable(errors.New("hubspot refuses access tokens that it has just given"))
		a.retryAt = now.Add(jitter(min(firstPause<<min(a.refused, 10), longestPause)))
		a.row.LastError, a.row.LastErrorAt, a.noted = a.failed.Error(), now, false
	}
}

// Doubted says that HubSpot has answered 401 to a call that is no delivery, and whose address others choose: it may be for that, and not for the token. So the token is refreshed, at most
// once in refusedFor, and who delivers goes on with the one that there is until another comes. another says that the call is to be made again: the token is another one now, or there is none any more.
func (s *Service) Doubted(ctx context.Context, appName, account string, token config.Secret) (another bool) {
	a, ap := s.find(id{appName, account}), s.app(appName)
	if a == nil || ap == nil {
		return true // who asks for a token is told
	}
	f := func() *flight {
		a.mu.Lock()
		defer a.mu.Unlock()
		now := s.opts.Now()
		if a.tokens.Access != token || Status(a.row.Status) != Connected {
			return nil
		}
		if a.flight == nil && !now.Before(a.retryAt) && now.Sub(a.doubtedAt) > refusedFor && now.Sub(a.refusedAt) > refusedFor {
			a.doubtedAt = now
			s.beginLocked(a, ap)
		}
		return a.flight
	}()
	if f != nil {
		select {
		case <-f.done:
		case <-ctx.Done():
			return false
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tokens.Access != token
}
