package sandbox

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// state is the account. The Sandbox's mutex guards it.
type state struct {
	opts     *Options
	provider *provider

	arrived uint64 // calls so far

	// of the call in hand
	seq         uint64 // its number
	now         stamp
	correlation string
	version     string // of the API

	// changes that are not visible yet, oldest first
	pending []pendingChange

	contacts    contactBook
	properties  registry[property]
	groups      map[string]string // of properties: labels by name
	definitions registry[definition]
	burned      map[string]bool // names of deleted definitions
	events      eventLog
	quota       quota
}

type pendingChange struct {
	due   time.Time
	apply func()
}

func newState(o *Options, p *provider) *state {
	st := &state{
		opts:        o,
		provider:    p,
		contacts:    newContactBook(),
		properties:  newRegistry[property](len(defaultProperties())),
		groups:      map[string]string{},
		definitions: newRegistry[definition](0),
		burned:      map[string]bool{},
		events:      newEventLog(),
		quota:       newQuota(o),
	}
	own := map[string]bool{}
	for _, p := range defaultProperties() {
		if own[p.Name] = true; !o.OnlyProperties {
			st.properties.put(p.Name, p)
			st.groups[p.GroupName] = p.GroupName
		}
	}
	for _, name := range o.Groups {
		st.groups[name] = name
	}
	created := stampOf(o.Now())
	for _, p := range o.Properties {
		p.created, p.updated = created.at, created.at
		p.HubSpotDefined = p.HubSpotDefined || own[p.Name]
		p.GroupName = cmp.Or(p.GroupName, "contactinformation")
		st.groups[p.GroupName] = p.GroupName
		st.properties.put(p.Name, newProperty(p))
	}
	for i, d := range o.Definitions {
		d.ID, d.FullyQualifiedName, d.PrimaryObject = strconv.Itoa(1000+i), "pe"+o.HubID+"_"+d.Name, "CONTACT"
		st.definitions.put(d.Name, newDefinition(d, created, created))
	}
	return st
}

// begin starts c at t: changes that are due become visible.
func (st *state) begin(t time.Time, c *call) {
	st.seq = c.number
	st.now = stampOf(t)
	st.correlation = correlationID(st.seq)
	st.version = c.version
	for len(st.pending) > 0 && !st.pending[0].due.After(t) {
		st.pending[0].apply()
		st.pending = st.pending[1:]
	}
}

// later runs apply when the lag has passed, at once when there is none. Changes stay in their order, also when the lag was lowered
// between them.
func (st *state) later(apply func()) {
	if st.opts.Lag <= 0 && len(st.pending) == 0 {
		apply()
		return
	}
	st.pending = append(st.pending, pendingChange{st.now.at.Add(st.opts.Lag), apply})
}

// correlationID is a UUID that is the same in each run.
func correlationID(seq uint64) string {
	h := seq * 0x9e3779b97f4a7c15 // spread, so that ids do not look alike in logs
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", uint32(h>>32), uint16(h>>16), h>>4&0xfff, h>>8&0xfff, seq)
}

// answer checks what all calls have in common, then runs the operation.
func (st *state) answer(c *call) answer {
	a, counted := st.dispatch(c)
	if a.header == nil {
		a.header = http.Header{}
	}
	h := a.header
	h["X-Hubspot-Correlation-Id"] = []string{st.correlation}
	if len(a.body) > 0 && h["Content-Type"] == nil {
		h["Content-Type"] = []string{"application/json;charset=utf-8"}
	}
	if counted {
		st.quota.setHeaders(h, c.route.policy, c.consumer(), st.now.at)
	}
	return a
}

// dispatch reports in counted whether the call reached the quotas.
func (st *state) dispatch(c *call) (a answer, counted bool) {
	if c.route == nil {
		if c.wrong != nil {
			return st.fail(c.wrong), false
		}
		return st.fail(&apiError{status: http.StatusNotFound, message: "resource not found"}), false
	}
	if c.route.policy == openPolicy {
		if c.wrong != nil {
			return st.fail(c.wrong), false
		}
		return c.route.handle(st, c), false
	}
	if e := st.authorize(c); e != nil {
		return st.fail(e), false
	}
	if e := st.quota.take(c.route.policy, c.consumer(), st.now.at); e != nil {
		return st.fail(e), true
	}
	if c.wrong != nil {
		return st.fail(c.wrong), true
	}
	return c.route.handle(st, c), true
}

// token is the bearer token; "": there is none.
func (c *call) token() string {
	scheme, token, _ := strings.Cut(c.header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// consumer is who the call counts for.
func (c *call) consumer() consumer {
	if c.client != "" {
		return consumer{c.client, true}
	}
	return consumer{c.token(), false}
}

// unauthorized refuses a token.
func unauthorized() *apiError {
	return &apiError{
		status: http.StatusUnauthorized, category: invalidAuth,
		message: "Authentication credentials not found. This API supports OAuth 2.0 authentication",
	}
}

// authorize checks token, scope and tier.
func (st *state) authorize(c *call) *apiError {
	token, scope := c.token(), c.route.scope
	lacks := st.opts.lacks(scope)
	switch {
	case isOAuth(token):
		client, scopes, e := st.provider.authenticate(token, st.opts.HubID)
		if e != nil {
			return e
		}
		c.client = client
		lacks = lacks || scope != "" && !slices.Contains(scopes, scope)
	case token == "" || st.opts.Token != "" && token != st.opts.Token:
		return unauthorized()
	}
	if lacks {
		return &apiError{
			status: http.StatusForbidden, category: missingScopes,
			message: "One or more of the following scopes are required.",
			context: []contextEntry{
				{"requiredGranularScopes", []string{scope}},
				{"links", []string{"https://developers.hubspot.com/scopes"}},
			},
		}
	}
	return nil
}

// shuffle returns the order in which n results are answered: never that of the input, as results match inputs by id only, and the same
// in each run.
func (st *state) shuffle(n int) []int {
	order := rand.New(rand.NewPCG(st.seq, uint64(n))).Perm(n)
	if n > 1 && order[0] == 0 {
		order[0], order[n-1] = order[n-1], order[0]
	}
	return order
}

// registry holds definitions by name twice: as written, and as visible after the lag. Values are immutable; a change puts a new one.
type registry[T any] struct {
	truth, view map[string]*T
}

func newRegistry[T any](size int) registry[T] {
	return registry[T]{make(map[string]*T, size), make(map[string]*T, size)}
}

// put makes v known and visible at once.
func (r *registry[T]) put(name string, v *T) { r.truth[name], r.view[name] = v, v }

// names lists what is visible, sorted.
func (r *registry[T]) names() []string {
	names := make([]string, 0, len(r.view))
	for n := range r.view {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// change makes v known now and visible after the lag; a nil v removes the name.
func change[T any](st *state, r *registry[T], name string, v *T) {
	set := func(m map[string]*T) {
		if v == nil {
			delete(m, name)
		} else {
			m[name] = v
		}
	}
	set(r.truth)
	st.later(func() { set(r.view) })
}
