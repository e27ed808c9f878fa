package sandbox

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// provider is HubSpot's identity provider: the apps, the hubs, and what hubs granted to apps. All hubs of a sandbox share it.
//
// Its lock is taken last: the provider calls no sandbox while it holds it.
type provider struct {
	top  *Sandbox // the hub of Options.HubID, which answers for the provider
	now  func() time.Time
	http http.RoundTripper // for webhooks

	mu       sync.Mutex // guards what follows
	apps     map[string]*App
	hubs     map[string]*hubEntry
	order    []*hubEntry // of hubs
	codes    map[string]*authCode
	access   map[string]*accessToken
	refresh  map[string]*install
	installs map[installKey]*install
	webhooks int // events sent so far
}

// hubEntry is a hub; its sandbox is made when it is first asked for.
type hubEntry struct {
	Hub
	box *Sandbox
}

type installKey struct{ client, hub string }

// install is an app in a hub.
type install struct {
	installKey
	scopes  []string // granted by who connected last
	since   time.Time
	refresh string         // "": revoked
	access  []*accessToken // oldest first
}

// authCode is what a person brings back from the consent page.
type authCode struct {
	installKey
	scopes              []string
	redirect, challenge string
	expires             time.Time
}

type accessToken struct {
	text    string
	install *install
	scopes  []string
	expires time.Time
	dead    bool // the app was uninstalled
}

// maxAccessTokens is how many access tokens of one install are known; older ones are refused like any unknown one.
const maxAccessTokens = 20

// accessPrefix marks the access tokens of apps, so that one which nobody knows any more is never taken for a private app's.
const accessPrefix = "oat-na1-"

func newProvider(top *Sandbox) *provider {
	p := &provider{top: top, now: top.initial.Now, http: top.initial.Webhooks}
	if p.http == nil {
		p.http = http.DefaultTransport
	}
	p.reset()
	return p
}

// reset forgets all that happened. Hubs of the sandbox's Options stay the same sandboxes, and are emptied.
func (p *provider) reset() {
	p.mu.Lock()
	o, before := p.top.initial, p.hubs
	p.apps, p.hubs, p.order = map[string]*App{}, map[string]*hubEntry{}, nil
	p.codes, p.access, p.refresh, p.installs = map[string]*authCode{}, map[string]*accessToken{}, map[string]*install{}, map[installKey]*install{}
	for _, a := range o.Apps {
		if err := p.registerLocked(a); err != nil {
			panic(fmt.Sprintf("BUG: app %q: %v", a.ClientID, err))
		}
	}
	own := &hubEntry{Hub: Hub{ID: o.HubID, Name: "Hub " + o.HubID}, box: p.top}
	p.hubs[own.ID], p.order = own, append(p.order, own)
	var kept []*Sandbox
	for _, h := range o.Hubs {
		if err := p.addHubLocked(h); err != nil {
			panic(fmt.Sprintf("BUG: hub %q: %v", h.ID, err))
		}
		if old := before[h.ID]; old != nil && old.box != nil && old.box != p.top {
			p.hubs[h.ID].box = old.box
			kept = append(kept, old.box)
		}
	}
	p.mu.Unlock()
	for _, box := range kept {
		box.Reset()
	}
}

func (p *provider) registerLocked(a App) error {
	if err := a.complete(); err != nil {
		return err
	}
	p.apps[a.ClientID] = &a
	return nil
}

func (p *provider) addHubLocked(h Hub) error {
	if err := h.complete(); err != nil {
		return err
	}
	if p.hubs[h.ID] != nil {
		return errors.New("hub " + h.ID + " exists")
	}
	e := &hubEntry{Hub: h}
	p.hubs[h.ID], p.order = e, append(p.order, e)
	return nil
}

// hub returns the sandbox of a hub, or nil.
func (p *provider) hub(id string) *Sandbox {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.hubs[id]
	if e == nil {
		return nil
	}
	if e.box == nil {
		e.box = newHub(e.apply(p.top.initial), p)
	}
	return e.box
}

// owner is the hub whose access token that is; "" for tokens that no app has got, and for those of hubs that are gone.
func (p *provider) owner(token string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.access[token]
	if t == nil || p.hubs[t.install.hub] == nil {
		return ""
	}
	return t.install.hub
}

// formOwner is the hub whose code or refresh token a form holds, or "".
func (p *provider) formOwner(c *call) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if code := p.codes[c.form.Get("code")]; code != nil {
		return code.hub
	}
	if in := p.refresh[cmp.Or(c.form.Get("refresh_token"), c.form.Get("token"))]; in != nil {
		return in.hub
	}
	return ""
}

// isOAuth reports whether a token is an app's access token, known or not.
func isOAuth(token string) bool { return strings.HasPrefix(token, accessPrefix) }

// authenticate finds what an access token allows in a hub.
func (p *provider) authenticate(token, hub string) (client string, scopes []string, e *apiError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t, now := p.access[token], p.now()
	switch {
	case t == nil || t.dead || t.install.hub != hub:
		return "", nil, unauthorized() // modelled: what is said when the app is uninstalled is not known
	case !now.Before(t.expires):
		return "", nil, &apiError{
			status: http.StatusUnauthorized, category: expiredAuth,
			message: "The OAuth token used to make this call expired " + ago(now.Sub(t.expires)) + " ago.",
			context: []contextEntry{{"expire time", []string{stampOf(t.expires).text}}},
		}
	}
	return t.install.client, t.scopes, nil
}

// ago is a duration in HubSpot's words.
func ago(d time.Duration) string {
	n, unit := int64(d/time.Second), "second"
	switch {
	case d >= 24*time.Hour:
		n, unit = int64(d/(24*time.Hour)), "day"
	case d >= time.Hour:
		n, unit = int64(d/time.Hour), "hour"
	case d >= time.Minute:
		n, unit = int64(d/time.Minute), "minute"
	}
	return fmt.Sprintf("%d %s(s)", n, unit)
}

// newCode notes a grant and returns the code that stands for it.
func (p *provider) newCode(c authCode) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for text, old := range p.codes {
		if !now.Before(old.expires) {
			delete(p.codes, text)
		}
	}
	text := newToken("na1-", 1)
	c.expires = now.Add(codeLife)
	p.codes[text] = &c
	return text
}

// newToken is unguessable, and different from those of any other sandbox.
func newToken(prefix string, parts int) string {
	var b strings.Builder
	b.WriteString(prefix)
	for range parts {
		b.WriteString(strings.ToLower(rand.Text()))
	}
	return b.String()
}

// connectLocked makes or renews the install that a code stands for. Who connects a hub again gets the same refresh token while it is good
// (modelled).
func (p *provider) connectLocked(c *authCode) *install {
	in := p.installs[c.installKey]
	if in == nil {
		in = &install{installKey: c.installKey, since: p.now()}
		p.installs[c.installKey] = in
	}
	in.scopes = c.scopes
	if in.refresh == "" {
		p.renewLocked(in)
	}
	return in
}

// renewLocked gives the install another refresh token; the one before is good no more.
func (p *provider) renewLocked(in *install) {
	delete(p.refresh, in.refresh)
	in.refresh = newToken("na1-", 2)
	p.refresh[in.refresh] = in
}

// accessLocked gives the install another access token. Those before stay good until they expire.
func (p *provider) accessLocked(in *install, life time.Duration) *accessToken {
	// About 200 characters: HubSpot's have hundreds and say that up to 512 must fit.
	t := &accessToken{text: newToken(accessPrefix, 8), install: in, scopes: in.scopes, expires: p.now().Add(life)}
	p.access[t.text] = t
	if in.access = append(in.access, t); len(in.access) > maxAccessTokens {
		delete(p.access, in.access[0].text)
		in.access = slices.Delete(in.access, 0, 1)
	}
	return t
}

// matching are the installs of an app in a hub, in order of hub and app; "" is any of them.
func (p *provider) matchingLocked(client, hub string) []*install {
	var list []*install
	for key, in := range p.installs {
		if (client == "" || key.client == client) && (hub == "" || key.hub == hub) {
			list = append(list, in)
		}
	}
	slices.SortFunc(list, func(a, b *install) int {
		return strings.Compare(fmt.Sprintf("%12s %s", a.hub, a.client), fmt.Sprintf("%12s %s", b.hub, b.client))
	})
	return list
}

// errNotInstalled says that there is nothing to act on.
var errNotInstalled = errors.New("no such app is installed in that hub")

// eachInstall calls do for the installs of an app in a hub, with the lock held; "" is any.
func (p *provider) eachInstall(client, hub string, do func(*install)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.matchingLocked(client, hub)
	for _, in := range list {
		do(in)
	}
	if len(list) == 0 {
		return errNotInstalled
	}
	return nil
}

// uninstallLocked ends the install: its tokens are good no more, and the app's webhook is told.
func (p *provider) uninstallLocked(in *install) {
	for _, t := range in.access {
		t.dead = true
	}
	delete(p.refresh, in.refresh)
	delete(p.installs, in.installKey)
	for text, c := range p.codes {
		if c.installKey == in.installKey {
			delete(p.codes, text)
		}
	}
	p.announceLocked(in)
}
