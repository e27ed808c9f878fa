package connections

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/store"
)

// Connection is what is told of an account. Times that are nil never were.
type Connection struct {
	App          string     `json:"app"`
	Account      string     `json:"account"`
	Hub          string     `json:"hub"`
	HubDomain    string     `json:"hub_domain,omitempty"` // by which people know the hub; "": HubSpot did not say
	Status       Status     `json:"status"`
	Reason       string     `json:"reason,omitempty"` // why it is not connected, or gets no tokens
	Scopes       []string   `json:"scopes"`
	Since        *time.Time `json:"since"`         // when it connected this hub
	Granted      *time.Time `json:"granted"`       // when its people granted it last
	Changed      *time.Time `json:"changed"`       // when the status did
	LastDelivery *time.Time `json:"last_delivery"` // when a call went through
	LastError    string     `json:"last_error,omitempty"`
	LastErrorAt  *time.Time `json:"last_error_at,omitempty"`
	// Problem is what keeps the account's events from HubSpot now, or kept one from it of late, in the word that the people of the account are told; "": nothing.
	Problem   destinations.Cause `json:"problem,omitempty"`
	ProblemAt *time.Time         `json:"problem_at,omitempty"` // since when, or when it was
	// QuotaLeft are the calls that the hub allows for now, by policy; nil: not known.
	QuotaLeft     map[string]int `json:"quota_left"`
	AlsoConnected []string       `json:"also_connected,omitempty"` // other accounts with the same hub
}

// ReasonUninstalled is why an account has to connect anew whose people have uninstalled the app.
const ReasonUninstalled = "the app was uninstalled in HubSpot"

// Get tells of one account; false: it is not known.
func (s *Service) Get(appName, account string) (Connection, bool) {
	a := s.find(id{appName, account})
	if a == nil {
		return Connection{}, false
	}
	return s.shown(a)
}

func (s *Service) shown(a *account) (Connection, bool) {
	a.mu.Lock()
	row := a.row
	a.mu.Unlock()
	if row.Hub == "" {
		return Connection{}, false
	}
	at := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC().Truncate(time.Millisecond)
		return &t
	}
	c := Connection{
		App: row.App, Account: row.Account, Hub: row.Hub, HubDomain: row.HubDomain, Status: Status(row.Status), Reason: row.Reason, Scopes: append([]string{}, row.Scopes...),
		Since: at(row.Since), Granted: at(row.Granted), Changed: at(row.Changed), LastDelivery: at(row.LastDelivery),
		LastError: row.LastError, LastErrorAt: at(row.LastErrorAt), AlsoConnected: s.sharers(row.App, row.Hub, row.Account),
	}
	if s.app(row.App) == nil && c.Status == Connected {
		c.Reason = "the app is not in the configuration"
	}
	if s.opts.Usage != nil {
		u := s.opts.Usage(row.App, row.Account, row.Hub)
		if c.Status == Connected && u.LastError != "" && worthTelling(&u, s.opts.Now(), row.Granted) {
			c.Problem, c.ProblemAt = u.Cause, at(u.ErrorAt)
		}
		c.QuotaLeft = u.QuotaLeft
		if u.LastError != "" && !u.ErrorAt.Before(row.LastErrorAt) {
			c.LastError, c.LastErrorAt = u.LastError, at(u.ErrorAt)
		}
	}
	return c, true
}

// worthTelling says whether the people of an account are told of what went wrong: of what may pass by itself when it has lasted for a minute, and for a day of an event that was not taken; not of
// what is over because they have connected anew.
func worthTelling(u *Usage, now, granted time.Time) bool {
	switch ago := now.Sub(u.ErrorAt); u.Cause {
	case destinations.CausePermission: // unless it is just tried whether that has helped
		return u.ErrorAt.After(granted) || now.Sub(granted) >= time.Minute
	case destinations.CauseRefused:
		return ago < 24*time.Hour && u.ErrorAt.After(granted)
	default:
		return ago >= time.Minute
	}
}

// List tells of all accounts, or those of an app, or with a name, in order: at most limit behind the one that after names, if it does. more says whether there are others.
func (s *Service) List(appName, name string, after [2]string, limit int) (all []Connection, more bool) {
	s.mu.RLock()
	accounts := slices.Collect(maps.Values(s.accounts))
	s.mu.RUnlock()
	order := func(a, b id) int { return cmp.Or(cmp.Compare(a.app, b.app), cmp.Compare(a.account, b.account)) }
	slices.SortFunc(accounts, func(a, b *account) int { return order(a.id, b.id) })
	for _, a := range accounts {
		if appName != "" && a.id.app != appName || name != "" && a.id.account != name || order(a.id, id{after[0], after[1]}) <= 0 {
			continue
		}
		c, ok := s.shown(a)
		if !ok {
			continue
		}
		if len(all) == limit {
			return all, true
		}
		all = append(all, c)
	}
	return all, false
}

// Disconnection is what Disconnect did.
type Disconnection struct {
	App     string `json:"app"`
	Account string `json:"account"`
	Hub     string `json:"hub"`
	Revoked bool   `json:"revoked"`           // HubSpot has taken back the tokens, or had before
	Erased  bool   `json:"erased"`            // nothing of them is in the files of the store any more
	Problem string `json:"problem,omitempty"` // what was not done, in words
}

// erasePatience is how long Disconnect waits for those who read the store.
const erasePatience = 20 * time.Second

// Disconnect revokes an account's tokens at HubSpot and erases them here, also where they can not be revoked. What waits for the account stays, for when it connects again.
// Errors: ErrNotConnected, ctx's own before anything was done, and the store's.
func (s *Service) Disconnect(ctx context.Context, appName, name string) (d Disconnection, err error) {
	a := s.find(id{appName, name})
	if a == nil {
		return d, ErrNotConnected
	}
	if err := a.take(ctx); err != nil { // a refresh under way would bring new tokens
		return d, err
	}
	done := make(chan error, 1)
	if !s.fly(func() { d, err = s.disconnect(a); done <- err }) {
		a.release()
		return d, errStopping
	}
	return d, <-done
}

// disconnect goes on when whoever asked for it is gone. It gives the account's turn back.
func (s *Service) disconnect(a *account) (d Disconnection, err error) {
	defer a.release()
	a.mu.Lock()
	row, held := a.row, a.tokens
	a.mu.Unlock()
	d = Disconnection{App: row.App, Account: row.Account, Hub: row.Hub}
	if row.Hub == "" {
		return d, ErrNotConnected
	}
	now := s.opts.Now()
	c := &Change{App: row.App, Account: row.Account, Hub: row.Hub, WasHub: row.Hub, Status: Disconnected, Reason: "it was disconnected", At: now}
	ctx := context.Background()
	if err := s.opts.Store.DeleteConnection(ctx, store.Disconnected{App: row.App, Account: row.Account, At: now}, s.linksSince(now), s.notice(c)...); err != nil {
		return d, err
	}
	a.mu.Lock()
	a.row, a.tokens, a.chosen, a.noted, a.ended = store.Connection{App: row.App, Account: row.Account}, tokens{}, Chosen{}, true, now
	a.failed, a.failures, a.retryAt, a.refused = nil, 0, time.Time{}, 0
	a.mu.Unlock()
	s.indexHub(a, row.Hub, "")
	s.tell(*c)
	s.opts.Logger.Info("an account is disconnected", "app", row.App, "account", row.Account, "hub", row.Hub)

	ap := s.app(row.App)
	switch {
	case held.Refresh == "":
		d.Revoked = true // it was lost before
	case ap == nil:
		d.Problem = "the tokens are not revoked at HubSpot, for the app is not in the configuration: they stay valid until it is uninstalled there"
	default:
		switch d.Revoked, err = s.revokeUnshared(ap, row.Hub, held.Refresh); {
		case err != nil:
			d.Problem = "the tokens are not revoked at HubSpot: " + err.Error() + "; they stay valid until the app is uninstalled there"
		case !d.Revoked:
			d.Problem = "the tokens are not revoked at HubSpot, for other accounts are connected with the same ones: " + strings.Join(s.sharers(row.App, row.Hub, row.Account), ", ") + "; they are when the last of these disconnects"
		}
	}
	erase, cancel := context.WithTimeout(ctx, erasePatience)
	defer cancel()
	switch err := s.opts.Store.EraseDeleted(erase); {
	case err == nil:
		d.Erased = true
	case errors.Is(err, store.ErrReaders):
		s.opts.Logger.Warn("what is left of an account's encrypted tokens is in the store's files until nobody reads what is older", "app", row.App, "account", row.Account)
	default:
		s.opts.Logger.Warn("what is left of an account's encrypted tokens may be in the store's files", "app", row.App, "account", row.Account, "error", err.Error())
	}
	return d, nil
}
