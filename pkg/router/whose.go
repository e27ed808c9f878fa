package router

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
	"eventrouter/pkg/store"
)

// noAccount is why events of nobody's account are skipped by a destination that delivers to accounts.
const noAccount = "no account"

// reasonAccount is of dead letters: of which account an event is could not be found out.
const reasonAccount = "account"

// AccountOf reads from an event whose it is. It may be used from many goroutines.
type AccountOf struct {
	mu    sync.Mutex // held while value is asked
	value *filters.Value
}

// CompileAccount compiles the expression of a destination's `account`. Its error is a [filters.SyntaxError].
func CompileAccount(source string, o filters.Options) (*AccountOf, error) {
	v, err := filters.CompileValue(source, o)
	if err != nil {
		return nil, err
	}
	return &AccountOf{value: v}, nil
}

// Warnings returns what works but is hardly meant.
func (a *AccountOf) Warnings() []string { return a.value.Warnings() }

// Eval returns the account that an event names; "": none.
func (a *AccountOf) Eval(ev *event.Event) (account string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = caught(p)
		}
	}()
	a.mu.Lock()
	defer a.mu.Unlock()
	v, err := a.value.Eval(filters.NewView(ev))
	switch {
	case err != nil:
		return "", err
	case v.Type == gjson.Number:
		return strings.Clone(v.Raw), event.CheckAccount(v.Raw)
	case !v.Exists() || v.Type == gjson.Null:
		return "", nil
	case v.Type != gjson.String:
		return "", errors.New("account is neither a text nor a number")
	}
	account = strings.TrimSpace(v.Str)
	return strings.Clone(account), event.CheckAccount(account)
}

// scopeOf is within which events teach each other whose ids are whose: an API key, of each of its accounts apart. No account can be named so that it gets into another one's: ids of
// API keys hold no NUL.
func scopeOf(ev *event.Event) string { return scope(ev.APIKey, ev.Account) }

func scope(apiKey, account string) string {
	if account == "" {
		return apiKey
	}
	return store.AnyAccount(apiKey) + account
}

// Whose returns the event as a route that delivers to accounts gets it, with its account: that of its token or API key, else, of what a server posted, the one that the route's
// expression reads. skip is why the route does not get it; "": it does. An error makes it a dead letter. It is for events that are not resolved yet: what is known of its person depends on
// its account.
func (r *Route) Whose(ev *event.Event) (own *event.Event, skip string, err error) {
	if r.Connection == "" {
		return ev, "", nil
	}
	if ev.Account == "" && ev.Server && r.Account != nil {
		account, err := r.Account.Eval(ev)
		if err != nil {
			return ev, "", err
		}
		if account != "" {
			named := *ev
			named.Account = account
			ev = &named
		}
	}
	if ev.Account == "" {
		return ev, noAccount, nil
	}
	return ev, "", nil
}

// owner is what a route gets of the event in hand.
type owner struct {
	event *event.Event // with its account and person; nil: nothing
	skip  string
	err   error
}

// whose asks each route that gets the event of which account it is. They do not know yet whose person it is about: see resolved.
func (h *handover) whose(ev *event.Event) {
	h.accounts = h.accounts[:0]
	if !h.table.connected {
		return
	}
	for i, route := range h.table.routes {
		began := time.Now()
		h.owners[i] = route.owner(ev, h.owners[:i])
		if route.Account != nil {
			h.spent[i] += time.Since(began)
		}
		own := h.owners[i].event
		if own != nil && own != ev && !slices.ContainsFunc(h.owners[:i], func(other owner) bool { return other.event == own }) {
			h.accounts = append(h.accounts, own.Account)
		}
	}
	slices.Sort(h.accounts)
}

// owner is what the route gets of an event; earlier are those of other routes. Routes that read the same account share the event.
func (r *Route) owner(ev *event.Event, earlier []owner) (o owner) {
	if !r.Takes(ev) {
		return owner{}
	}
	o.event, o.skip, o.err = r.Whose(ev)
	if o.event == ev {
		return o
	}
	if j := slices.IndexFunc(earlier, func(other owner) bool { return other.event != nil && other.event.Account == o.event.Account }); j >= 0 {
		o.event = earlier[j].event
	}
	return o
}

// versions are an event as routes get it, each once: of each account that one of them reads in it, and as it came where a route gets it so, or none gets it.
func versions(dst []*event.Event, ev *event.Event, owners []owner) []*event.Event {
	for _, o := range owners {
		if o.event != nil && o.skip == "" && !slices.Contains(dst, o.event) {
			dst = append(dst, o.event)
		}
	}
	if len(dst) == 0 {
		dst = append(dst, ev)
	}
	return dst
}

// resolved has all that routes get of an event know its person. Of each account other events have taught who that is.
func (h *handover) resolved(ev *event.Event) {
	for _, version := range h.versions(ev) {
		h.identities.resolve(version)
	}
}

// versions are the event in hand as routes get it.
func (h *handover) versions(ev *event.Event) []*event.Event {
	if len(h.accounts) == 0 {
		h.views = append(h.views[:0], ev)
	} else {
		h.views = versions(h.views[:0], ev, h.owners)
	}
	return h.views
}

// enriched adds to all that routes get of an event what is found out of each.
func (h *handover) enriched(ev *event.Event) (bot bool) {
	bot = h.r.enricher.Enrich(ev)
	for _, o := range h.owners {
		if len(h.accounts) > 0 && o.event != nil && o.event != ev {
			o.event.Added = ev.Added
		}
	}
	return bot
}

// own is what the route i gets of ev, and whether it gets it: else it is noted why not.
func (h *handover) own(i int, ev *event.Event) (*event.Event, Decision) {
	if !h.table.connected {
		return ev, Decision{}
	}
	o := h.owners[i]
	return o.event, o.decision()
}

// decision is why a route does not get the event; its status is "" where it does.
func (o *owner) decision() Decision {
	switch {
	case o.err != nil:
		return dead(0, o.event, reasonOf(o.err, reasonAccount), fmt.Errorf("account: %w", o.err))
	case o.skip != "":
		return Decision{Event: o.event, Status: store.Skipped, Reason: o.skip}
	}
	return Decision{}
}
