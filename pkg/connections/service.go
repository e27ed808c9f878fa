// Package connections keeps the HubSpot accounts of a team's customers: how they connect, their tokens, and who is told when something changes.
//
//	link ─▶ /connect/{app}/start ─▶ HubSpot's page of consent ─▶ /connect/{app}/callback ─▶ connected ─▶ Token, Hub, Choices
//	                                        BAD_REFRESH_TOKEN, or the app uninstalled ─▶ reconnect needed ─▶ the lanes of the account wait
//
// A customer is an account, an opaque id of the team's choosing; the HubSpot account that it connects is a hub. Tokens are refreshed when somebody needs one and it is about
// to expire, not by a clock: a lane with something to send asks before each call, an account without traffic costs no calls, and HubSpot keeps a refresh token for as long as the
// app is installed. What HubSpot answers is on disk before it is used.
package connections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/seal"
	"eventrouter/pkg/store"
)

// Status says how an account stands.
type Status string

// Statuses. Disconnected is only told of: who is, is not known any more.
const (
	Connected       Status = "connected"
	ReconnectNeeded Status = "reconnect_needed"
	Disconnected    Status = "disconnected"
)

// Errors, to be tested with errors.Is.
var (
	ErrNoApp        = errors.New("there is no such app")
	ErrNotConnected = errors.New("the account is not connected")
	ErrAccount      = errors.New("an account is 1 to 256 bytes of text without control characters")
	ErrReturnURL    = errors.New("return_url is not below one of the app's return_urls")
	ErrNoOption     = errors.New("there is no such option")
	errStopping     = errors.New("the router is stopping")
	errBusy         = errors.New("the account's tokens are just being changed, and that can not be written down: see the router's log")
)

// Usage is what others know of an account. Members that are nil are not known.
type Usage struct {
	QuotaLeft map[string]int // calls that the account's hub allows for now, by policy
	LastError string         // what its lanes met last
	Cause     destinations.Cause
	ErrorAt   time.Time // when, or since when
}

// Options of a Service.
type Options struct {
	Apps  []config.App
	Store *store.Store
	// Keys encrypt links and what people bring back from HubSpot. There must be one that seals if there are apps.
	Keys *seal.Ring
	// Transport makes the calls to HubSpot; nil: http.DefaultTransport's settings.
	Transport http.RoundTripper
	// Append puts a record of package event into the log, durably. Nil: nobody is told of changes.
	Append func(recs ...[]byte) error
	// Usage tells what is known of an account elsewhere. It is called for each account that is listed. Nil: nothing is.
	Usage func(app, account, hub string) Usage

	Registerer prometheus.Registerer // nil: not registered anywhere
	Logger     *slog.Logger          // nil: discarded
	Now        func() time.Time      // nil: time.Now
}

// Service is the connections of all apps. Its methods may be called from many goroutines.
type Service struct {
	opts    Options
	box     *seal.Box // of links and states
	metrics *metrics
	wake    chan struct{} // there may be notices

	mu       sync.RWMutex // guards the fields below; goes before an account's
	apps     map[string]*app
	accounts map[id]*account
	byHub    map[id]*hub // id.account is the hub
	watchers map[int]func(Change)
	watched  int

	life    sync.Mutex // guards the fields below
	flights sync.WaitGroup
	closed  bool
	closing chan struct{} // closed with closed
}

// id names an account of an app.
type id struct{ app, account string }

// New reads the connections that the store has. It makes no calls and starts no goroutine.
func New(o Options) (*Service, error) {
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Transport == nil {
		o.Transport = destinations.NewTransport(8) // a token is asked for by one call at a time
	}
	s := &Service{
		opts: o, box: o.Keys.Box("connections"), wake: make(chan struct{}, 1),
		accounts: map[id]*account{}, byHub: map[id]*hub{}, watchers: map[int]func(Change){}, closing: make(chan struct{}),
	}
	stored, err := o.Store.Connections()
	if err != nil && len(stored) == 0 {
		return nil, fmt.Errorf("read the connections: %w", err)
	}
	if err != nil { // the others work
		o.Logger.Error("connections can not be read: their accounts have to connect anew", "error", err.Error())
	}
	if err := s.SetApps(o.Apps); err != nil {
		return nil, err
	}
	for i := range stored {
		s.adopt(&stored[i])
	}
	ended, err := o.Store.Disconnections()
	if err != nil {
		return nil, fmt.Errorf("read which accounts disconnected: %w", err)
	}
	for _, d := range ended {
		s.account(id{d.App, d.Account}).ended = d.At
	}
	for _, o := range s.Orphans() {
		o.log(s.opts.Logger)
	}
	if s.metrics, err = newMetrics(o.Registerer, s); err != nil {
		return nil, fmt.Errorf("connections: %w", err)
	}
	return s, nil
}

// SetApps replaces the apps. Connections of apps that are gone stay in the store, and give no tokens: see Orphans.
func (s *Service) SetApps(apps []config.App) error {
	if err := Check(apps, s.opts.Keys); err != nil {
		return err
	}
	made := map[string]*app{}
	for _, cfg := range apps {
		made[cfg.Name] = newApp(cfg)
	}
	s.mu.Lock()
	was := s.apps
	s.apps = made
	for _, a := range s.accounts {
		a.configured(made[a.id.app])
	}
	s.mu.Unlock()
	for _, o := range s.Orphans() {
		if was[o.App] != nil { // the others were told of before
			o.log(s.opts.Logger)
		}
	}
	return nil
}

// Check says what a service could not be made with: apps without a key that seals.
func Check(apps []config.App, keys *seal.Ring) error {
	if _, seals := keys.Sealing(); len(apps) > 0 && !seals {
		return errors.New("apps: server.encryption.key is not in force: customers' tokens are not kept on disk in the clear; a router that runs takes it up when it is restarted")
	}
	return nil
}

// adopt takes over what the store has of an account.
func (s *Service) adopt(row *store.Connection) {
	a, ap := s.account(id{row.App, row.Account}), s.app(row.App)
	defer s.indexHub(a, "", row.Hub) // without the account's lock
	a.mu.Lock()
	defer a.mu.Unlock()
	a.row = *row
	if err := a.openLocked(); err != nil && Status(row.Status) == Connected {
		a.row.Status, a.row.Reason = string(ReconnectNeeded), "the tokens can not be read"
	}
	a.configuredLocked(ap)
}

// app finds an app that is configured; nil: it is not.
func (s *Service) app(name string) *app {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.apps[name]
}

// find finds an account; nil: it never connected.
func (s *Service) find(i id) *account {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.accounts[i]
}

// account finds or makes one.
func (s *Service) account(i id) *account {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.accounts[i]
	if a == nil {
		a = newAccount(i)
		s.accounts[i] = a
	}
	return a
}

// Change is what a watcher is told of.
type Change struct {
	App, Account string
	Hub          string // that it is connected to now, or was when it disconnected
	WasHub       string // that it was connected to before; "" for none
	Status       Status
	Reason       string // why it is not connected, for people; never a secret
	At           time.Time
}

// Subscribe has fn called after every change of a connection's status or hub, and when its people have granted it anew, when that is on disk and what Hub and Token answer. fn must be quick; calls about one account
// come one after another, in order. cancel ends it.
func (s *Service) Subscribe(fn func(Change)) (cancel func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.watched
	s.watched++
	s.watchers[n] = fn
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, n)
	}
}

// tell calls the watchers, and wakes who sends notices. No lock is held.
func (s *Service) tell(c Change) {
	s.mu.RLock()
	watchers := make([]func(Change), 0, len(s.watchers))
	for _, n := range slices.Sorted(maps.Keys(s.watchers)) {
		watchers = append(watchers, s.watchers[n])
	}
	s.mu.RUnlock()
	for _, fn := range watchers {
		fn(c)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// For returns the connections of an app, as its destinations and the proxy see them.
func (s *Service) For(app string) OfApp { return OfApp{s, app} }

// OfApp are the connections of an app. It implements destinations.Connections.
type OfApp struct {
	s   *Service
	app string
}

// Hub is [Service.Hub].
func (c OfApp) Hub(account string) string { return c.s.Hub(c.app, account) }

// Token is [Service.Token] for a hub that must be named.
func (c OfApp) Token(ctx context.Context, account, hub string) (config.Secret, error) {
	if hub == "" {
		return "", blocked(ErrNotConnected)
	}
	return c.s.Token(ctx, c.app, account, hub)
}

// Doubted is [Service.Doubted].
func (c OfApp) Doubted(ctx context.Context, account string, token config.Secret) (another bool) {
	return c.s.Doubted(ctx, c.app, account, token)
}

// Refused is [Service.Refused].
func (c OfApp) Refused(account string, token config.Secret) { c.s.Refused(c.app, account, token) }

// Delivered is [Service.Delivered].
func (c OfApp) Delivered(account string) { c.s.Delivered(c.app, account) }

// Choices is [Service.Choices].
func (c OfApp) Choices(account string) (chosen destinations.Choices) {
	return c.s.Choices(c.app, account)
}

// Scopes are what the people of an account have granted, which the caller must not change; nil: not known.
func (c OfApp) Scopes(account string) []string {
	a := c.s.find(id{c.app, account})
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.row.Scopes
}

// Hub names the hub that an account is connected to, also while it has to connect anew. "": the account is not known.
func (s *Service) Hub(app, account string) string {
	a := s.find(id{app, account})
	if a == nil {
		return ""
	}
	return a.hubName()
}

// Delivered says that a call in the account went through.
func (s *Service) Delivered(app, account string) {
	if a := s.find(id{app, account}); a != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		if now := s.opts.Now(); a.row.Hub != "" {
			a.row.LastDelivery, a.noted, a.refused = now, false, 0
		}
	}
}

// notePause is how often it is written down when accounts were delivered to.
const notePause = time.Minute

// Run sends notices and writes down when accounts were delivered to, until ctx ends. It returns when no call to HubSpot is under way any more that could bring new
// tokens: the store must be open until then.
func (s *Service) Run(ctx context.Context) error {
	defer s.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	if s.opts.Append != nil {
		wg.Go(func() { s.sendNotices(ctx) })
	}
	if err := s.opts.Store.ForgetDisconnections(ctx, s.linksSince(s.opts.Now())); err != nil && ctx.Err() == nil {
		s.opts.Logger.Warn("that accounts disconnected long ago is not forgotten", "error", err.Error())
	}
	tick := time.NewTicker(notePause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			s.note(context.WithoutCancel(ctx))
			return nil
		case <-tick.C:
			s.note(ctx)
		}
	}
}

// Close waits for calls that may bring new tokens, and lets none begin. A second Close does nothing.
func (s *Service) Close() {
	s.life.Lock()
	if !s.closed {
		s.closed = true
		close(s.closing)
	}
	s.life.Unlock()
	s.flights.Wait()
}

// fly runs do in a goroutine that Close waits for; false: it is too late.
func (s *Service) fly(do func()) bool {
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed {
		return false
	}
	s.flights.Go(do)
	return true
}

// note writes down when accounts were delivered to and what went wrong.
func (s *Service) note(ctx context.Context) {
	s.mu.RLock()
	accounts := slices.Collect(maps.Values(s.accounts))
	s.mu.RUnlock()
	var rows []store.Connection
	for _, a := range accounts {
		a.mu.Lock()
		if !a.noted && a.row.Hub != "" {
			a.noted = true
			rows = append(rows, a.row)
		}
		a.mu.Unlock()
	}
	for some := range slices.Chunk(rows, 500) {
		if err := s.opts.Store.NoteConnections(ctx, some); err != nil {
			s.opts.Logger.Warn("when accounts were delivered to is not written down", "error", err.Error())
			return
		}
	}
}
