package connections

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/store"
)

// app is an app of the configuration.
type app struct {
	cfg  config.App
	home string // the router's own pages of the app: redirect_url without its last part, with a slash at the end
	// calls is held by who asks for a token that replaces one. It is of capacity refreshesAtOnce, and goes behind a hub's turn.
	calls chan struct{}

	mu   sync.Mutex // guards the field below
	told time.Time  // when it was logged last that HubSpot refuses the app
}

// mayTell says whether it is time to log once more that HubSpot refuses the app.
func (ap *app) mayTell(now time.Time) bool {
	ap.mu.Lock()
	defer ap.mu.Unlock()
	if now.Sub(ap.told) < ownPause && !ap.told.IsZero() {
		return false
	}
	ap.told = now
	return true
}

func newApp(cfg config.App) *app {
	return &app{cfg: cfg, home: strings.TrimSuffix(cfg.RedirectURL, "callback"), calls: make(chan struct{}, refreshesAtOnce)}
}

// account is a customer's account of an app.
type account struct {
	id id

	// turn is held by who changes the connection in the store: a refresh, a callback, a disconnect. It is of capacity 1, goes behind a hub's and an app's, and before mu.
	turn chan struct{}

	mu        sync.Mutex // guards the fields below
	row       store.Connection
	tokens    tokens
	chosen    Chosen
	choices   destinations.Choices // by what is chosen and what the app has as default
	ended     time.Time            // when it disconnected last, as long as links of before may be about
	noted     bool                 // the store has when it was delivered to last
	refreshAt time.Time            // when the access token is to be refreshed
	flight    *flight              // the refresh under way; nil: none
	refused   int                  // access tokens that HubSpot refused since a call went through
	refusedAt time.Time            // when the last of these was
	doubtedAt time.Time            // when one was refreshed since a call of the proxy was refused
	failures  int                  // refreshes that failed since one did not
	failed    error                // of the last refresh; nil: it did not
	retryAt   time.Time            // before then there is no other
}

// tokens are what is kept sealed of an account.
type tokens struct {
	Access  config.Secret `json:"-"`
	Refresh config.Secret `json:"-"`
	Expires time.Time     `json:"-"`
}

// storedTokens are tokens as they are sealed: config.Secret keeps itself out of JSON.
type storedTokens struct {
	Access  string `json:"access,omitempty"`
	Refresh string `json:"refresh,omitempty"`
}

func (t tokens) stored() string {
	data, _ := json.Marshal(storedTokens{string(t.Access), string(t.Refresh)}) // of strings: can not fail
	return string(data)
}

func newAccount(i id) *account {
	return &account{id: i, turn: make(chan struct{}, 1), noted: true, row: store.Connection{App: i.app, Account: i.account}}
}

// takePatience is how long somebody waits for another who changes the connection: a call about tokens takes less, a full disk does not.
const takePatience = callTime + 5*time.Second

// take waits for the right to change the connection, which release gives back.
func (a *account) take(ctx context.Context) error {
	wait := time.NewTimer(takePatience)
	defer wait.Stop()
	select {
	case a.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-wait.C:
		return errBusy
	}
}

func (a *account) release() { <-a.turn }

// spent says whether a link that was made at a time, in Unix nanoseconds, is good no more: who has an old one must not connect a hub of theirs in the place of the account's.
func (a *account) spent(made int64, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	since := a.ended
	if a.row.Granted.After(since) {
		since = a.row.Granted
	}
	return made < since.UnixNano() && !since.IsZero() && !since.After(now) // else the clock was put back
}

// hubName is the hub that the account is connected to; "": none.
func (a *account) hubName() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.row.Hub
}

// openLocked reads what the row has sealed.
func (a *account) openLocked() error {
	a.tokens, a.chosen = tokens{}, Chosen{}
	var errs []error
	if a.row.Choices != "" {
		errs = append(errs, json.Unmarshal([]byte(a.row.Choices), &a.chosen))
	}
	var kept storedTokens
	if Status(a.row.Status) == Connected {
		errs = append(errs, json.Unmarshal([]byte(a.row.Tokens), &kept))
		if kept.Refresh == "" {
			errs = append(errs, errors.New("there are no tokens"))
		}
	}
	a.tokens = tokens{config.Secret(kept.Access), config.Secret(kept.Refresh), a.row.Expires}
	a.row.Tokens = ""                                    // they are in tokens
	a.refreshAt = a.row.Expires.Add(-jitter(storedLead)) // how long it was good at first is not known any more
	return errors.Join(errs...)
}

// configured tells an account that its app's configuration may be another one; nil: the app is gone.
func (a *account) configured(ap *app) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.configuredLocked(ap)
}

func (a *account) configuredLocked(ap *app) {
	a.choices = destinations.Choices{}
	if ap != nil {
		a.choices = ap.choices(a.chosen)
	}
	if _, ours := errors.AsType[*ownFault](a.failed); ours { // it may be right now
		a.failed, a.failures, a.retryAt = nil, 0, time.Time{}
	}
}

// Chosen is what the people of an account have chosen: what they did not touch is as the app says.
type Chosen struct {
	Options   map[string]bool `json:"options,omitempty"`    // by the name of portal.options
	AppEvents map[string]bool `json:"app_events,omitempty"` // by name
}

// choices are what is not to be sent, by what was chosen.
func (ap *app) choices(chosen Chosen) (c destinations.Choices) {
	off := func(set *map[string]bool, names ...string) {
		for _, name := range names {
			if *set == nil {
				*set = map[string]bool{}
			}
			(*set)[name] = true
		}
	}
	for _, o := range ap.cfg.Portal.Options {
		on, said := chosen.Options[o.Name]
		if !said {
			on = o.Default
		}
		if !on {
			off(&c.Properties, o.Properties...)
			off(&c.EventTypes, o.Events...)
		}
	}
	for name, on := range chosen.AppEvents {
		if !on {
			off(&c.AppEvents, name)
		}
	}
	return c
}

// Choices are what is not to be sent to an account. Those of one that is not known are the app's defaults.
func (s *Service) Choices(appName, account string) destinations.Choices {
	if a := s.find(id{appName, account}); a != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.row.Hub != "" {
			return a.choices
		}
	}
	if ap := s.app(appName); ap != nil {
		return ap.choices(Chosen{})
	}
	return destinations.Choices{}
}

// Chosen returns what the people of an account have chosen. The maps are the caller's own.
func (s *Service) Chosen(appName, account string) Chosen {
	a := s.find(id{appName, account})
	if a == nil {
		return Chosen{}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.chosen.merged(Chosen{})
}

// Choose notes what the people of an account have chosen; what more does not name stays as it was. On return that is on disk and holds for calls that begin from now on.
// Errors: ErrNoApp, ErrNotConnected, an *OptionError.
func (s *Service) Choose(ctx context.Context, appName, account string, more Chosen) error {
	ap := s.app(appName)
	if ap == nil {
		return ErrNoApp
	}
	if err := ap.check(more); err != nil {
		return err
	}
	a := s.find(id{appName, account})
	if a == nil {
		return ErrNotConnected
	}
	if err := a.take(ctx); err != nil {
		return err
	}
	defer a.release()
	a.mu.Lock()
	row, held, chosen := a.row, a.tokens, a.chosen.merged(more)
	a.mu.Unlock()
	if row.Hub == "" {
		return ErrNotConnected
	}
	text, err := json.Marshal(chosen)
	if err != nil {
		return err
	}
	row.Choices = string(text)
	if err := s.put(ctx, row, held); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.row.Choices, a.chosen, a.choices = row.Choices, chosen, ap.choices(chosen)
	return nil
}

func (c Chosen) merged(more Chosen) Chosen {
	both := func(a, b map[string]bool) map[string]bool {
		all := make(map[string]bool, len(a)+len(b))
		for _, m := range []map[string]bool{a, b} {
			for name, on := range m {
				all[name] = on
			}
		}
		return all
	}
	return Chosen{both(c.Options, more.Options), both(c.AppEvents, more.AppEvents)}
}

// put writes a row with tokens. The account's turn is held.
func (s *Service) put(ctx context.Context, row store.Connection, t tokens, notices ...store.ConnectionNotice) error {
	row.Tokens = ""
	if t.Refresh != "" {
		row.Tokens = t.stored()
	}
	return s.opts.Store.PutConnection(ctx, &row, notices...)
}

// CheckAccount says whether a text can name an account.
func CheckAccount(text string) error {
	if text == "" || event.CheckAccount(text) != nil {
		return ErrAccount
	}
	return nil
}
