package connections

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/store"
)

// callback is where HubSpot sends the browser back to. Everything is checked before the state is used up, so that nobody but the browser that began can use it up.
func (s *Service) callback(w http.ResponseWriter, r *http.Request, ap *app) {
	o, returnURL := s.answered(w, r, ap)
	s.metrics.connects.WithLabelValues(ap.cfg.Name, o.word).Inc()
	s.show(w, r, ap, o, returnURL)
}

// answered does what the answer of HubSpot's page says.
func (s *Service) answered(w http.ResponseWriter, r *http.Request, ap *app) (o outcome, returnURL string) {
	q := r.URL.Query()
	var st state
	if !s.open(kindState, ap.cfg.Name, q.Get("state"), &st) {
		return outcomeForeign, ""
	}
	hash := hashOf(string(st.ID))
	g, ok, err := s.opts.Store.Connecting(hash)
	switch {
	case err != nil:
		s.opts.Logger.Error("an account can not be connected", "app", ap.cfg.Name, "error", err.Error())
		return outcomeUnavailable, ""
	case s.opts.Now().Unix() >= st.Expires:
		return outcomeExpired, g.Secrets[secretReturn]
	case !ok:
		return outcomeUsed, ""
	case g.App != ap.cfg.Name:
		return outcomeForeign, ""
	case !fromHere(r, ap, hash, g.Secrets[secretCookie]):
		return outcomeOtherBrowser, ""
	}
	returnURL = g.Secrets[secretReturn]
	switch ok, err := s.opts.Store.TakeConnecting(r.Context(), hash); {
	case err != nil:
		s.opts.Logger.Error("an account can not be connected", "app", ap.cfg.Name, "account", g.Account, "error", err.Error())
		return outcomeUnavailable, returnURL
	case !ok:
		return outcomeUsed, ""
	}
	http.SetCookie(w, ap.cookie(hash, "", 0))
	switch {
	case q.Get("error") == "access_denied":
		return outcomeDenied, returnURL
	case q.Get("error") != "" || q.Get("code") == "":
		s.opts.Logger.Warn("HubSpot's page of consent did not give a code", "app", ap.cfg.Name, "account", g.Account)
		return outcomeRefused, returnURL
	}
	return s.connect(ap, &coming{g.Account, g.Secrets[secretVerifier], q.Get("code"), st.Made}), returnURL
}

// coming is somebody who is back from HubSpot.
type coming struct {
	account, verifier, code string
	made                    int64 // when the link was, in Unix nanoseconds
}

// connect exchanges a code for tokens and keeps them. It goes on when the browser is gone.
func (s *Service) connect(ap *app, c *coming) outcome {
	done := make(chan outcome, 1)
	if !s.fly(func() { done <- s.exchange(ap, c) }) {
		return outcomeUnavailable
	}
	return <-done
}

func (s *Service) exchange(ap *app, c *coming) outcome {
	ctx := context.Background()
	log := s.opts.Logger.With("app", ap.cfg.Name, "account", c.account)
	asked := s.opts.Now()
	got, err := s.token(ctx, ap, url.Values{
		"grant_type": {"authorization_code"}, "redirect_uri": {ap.cfg.RedirectURL}, "code": {c.code}, "code_verifier": {c.verifier},
	})
	if err == nil && got.refresh == "" {
		err = errors.New("hubspot's answer has no refresh token")
	}
	if err == nil {
		err = s.describe(ctx, ap, got)
	}
	if err != nil {
		refused, ok := errors.AsType[*refusal](err)
		switch {
		case ok && refused.ours():
			log.Error("nobody can connect: the app's configuration is wrong", "error", (&ownFault{refused}).Error())
			return outcomeMisconfigured
		case ok && refused.code != "":
			log.Warn("HubSpot does not take the code of an account that connects", "error", err.Error())
			return outcomeRefused
		}
		log.Error("an account can not be connected", "error", err.Error())
		return outcomeUnavailable
	}
	if lacks := missing(ap.cfg, got.scopes); len(lacks) > 0 {
		log.Warn("an account is not connected: it did not grant everything", "missing", strings.Join(lacks, " "))
		o := outcomeScopes
		o.detail = strings.Join(lacks, ", ")
		s.forgetGrant(ap, got)
		return o
	}
	return s.keepGrant(ap, c, asked, got)
}

// keepGrant makes or renews the connection.
func (s *Service) keepGrant(ap *app, come *coming, asked time.Time, got *grant) outcome {
	name := come.account
	a := s.account(id{ap.cfg.Name, name})
	log := s.opts.Logger.With("app", ap.cfg.Name, "account", name, "hub", got.hub)
	a.turn <- struct{}{}
	a.mu.Lock()
	row, was := a.row, a.tokens
	a.mu.Unlock()
	wasHub, wasStatus := row.Hub, Status(row.Status)
	if wasHub != got.hub && a.spent(come.made, s.opts.Now()) {
		a.release()
		log.Warn("an account is not connected to this hub: it has connected or disconnected since the link was made")
		s.forgetGrant(ap, got)
		return outcomeUsedLink
	}
	held := tokens{got.access, got.refresh, asked.Add(got.lifetime)}
	now := s.opts.Now()
	if wasHub != got.hub {
		row.Since, row.LastDelivery, row.HubDomain = now, time.Time{}, ""
	}
	changed := wasHub != got.hub || wasStatus != Connected
	if changed {
		row.Changed = now
	}
	row.Hub, row.Status, row.Reason, row.Scopes, row.Granted, row.Expires = got.hub, string(Connected), "", got.scopes, now, held.Expires
	row.LastError, row.LastErrorAt = "", time.Time{}
	row.HubDomain = cmp.Or(got.domain, row.HubDomain)
	c := &Change{App: ap.cfg.Name, Account: name, Hub: got.hub, WasHub: wasHub, Status: Connected, At: now}
	var notices []store.ConnectionNotice
	if changed {
		notices = s.notice(c)
	}
	if err := s.keep(a, func() error { return s.put(context.Background(), row, held, notices...) }); err != nil {
		a.release()
		log.Error("an account can not be connected: it can not be written down", "error", err.Error())
		return outcomeUnavailable
	}
	a.mu.Lock()
	row.Choices = a.row.Choices
	a.row, a.tokens, a.refreshAt, a.noted = row, held, refreshTime(asked, got.lifetime), true
	a.failed, a.failures, a.retryAt, a.refused, a.refusedAt, a.doubtedAt = nil, 0, time.Time{}, 0, time.Time{}, time.Time{}
	a.choices = ap.choices(a.chosen)
	a.mu.Unlock()
	s.indexHub(a, wasHub, got.hub)
	s.tell(*c) // also when it is as it was: what was blocked for want of a scope may go on
	a.release()
	switch {
	case wasHub == "":
		log.Info("an account is connected")
	case wasHub != got.hub:
		log.Warn("an account is connected to another hub than before; what is for the old one is parked", "was", wasHub)
	default:
		log.Info("an account has connected anew")
	}
	s.doubtOthers(ap, a, got)
	if others := s.sharers(ap.cfg.Name, got.hub, name); len(others) > 0 {
		log.Warn("other accounts are connected to the same hub: their events meet in one HubSpot account", "accounts", strings.Join(others, ", "))
	}
	if was.Refresh != "" && was.Refresh != got.refresh && wasHub != got.hub {
		s.revokeUnshared(ap, wasHub, was.Refresh)
	}
	o := outcomeConnected
	o.hub, o.account = got.hub, name
	if row.HubDomain != "" {
		o.hub = row.HubDomain + " (" + got.hub + ")"
	}
	return o
}

// doubtOthers refreshes the tokens of the other accounts of a hub that have another refresh token than the one that was just granted: HubSpot has one for an app in a hub, and so theirs may
// be of before the app was uninstalled. They do not get the new one: who has uninstalled the app and connects one account has not let another customer in again.
func (s *Service) doubtOthers(ap *app, from *account, got *grant) {
	now := s.opts.Now()
	for _, a := range s.ofHub(ap.cfg.Name, got.hub) {
		if a == from {
			continue
		}
		a.mu.Lock()
		if a.tokens.Refresh != "" && a.tokens.Refresh != got.refresh && a.flight == nil && !now.Before(a.retryAt) {
			s.beginLocked(a, ap)
		}
		a.mu.Unlock()
	}
}

// sharers are the other accounts of a hub.
func (s *Service) sharers(appName, hub, but string) (names []string) {
	for _, a := range s.ofHub(appName, hub) {
		if a.id.account != but {
			names = append(names, a.id.account)
		}
	}
	return names
}

// forgetGrant takes back what is not kept, unless another account has the same.
func (s *Service) forgetGrant(ap *app, got *grant) { s.revokeUnshared(ap, got.hub, got.refresh) }

// revokeUnshared revokes a refresh token that nobody has any more. It tells whether it did; false with a nil error: another account uses it.
func (s *Service) revokeUnshared(ap *app, hub string, refresh config.Secret) (revoked bool, err error) {
	if slices.ContainsFunc(s.ofHub(ap.cfg.Name, hub), func(a *account) bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.tokens.Refresh == refresh
	}) {
		return false, nil
	}
	if err := s.revoke(context.Background(), ap, refresh); err != nil {
		if refused, ok := errors.AsType[*refusal](err); ok && refused.revoked() {
			return true, nil // it was already
		}
		s.opts.Logger.Warn("a token is not revoked at HubSpot: nobody has it any more, but it stays valid until the app is uninstalled", "app", ap.cfg.Name, "hub", hub, "error", err.Error())
		return false, err
	}
	return true, nil
}
