package sandbox

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

//go:embed oauth.html
var consentText string

// consentPages are what a person sees who follows an install link.
var consentPages = template.Must(template.New("consent").Parse(consentText))

// consentPage is what those pages show.
type consentPage struct {
	App, Refusal     string
	Hubs             []Hub
	Chosen           bool // the link names the hub
	Scopes, Optional []string
}

// request is a checked install link.
type request struct {
	app                        *App
	redirect, state, challenge string
	scopes, optional           []string
	hub                        string // that the link names; "": the person chooses
}

// authorizePage answers an install link: GET shows the consent page, POST takes the person's decision. What HubSpot refuses is said on a
// page, never told to the redirect URL, which may be anybody's.
func (st *state) authorizePage(c *call) answer {
	if c.method == http.MethodGet {
		r, refusal := st.readLink(c)
		if refusal != "" {
			return refusalPage(refusal)
		}
		page := consentPage{App: r.app.Name, Scopes: r.scopes, Optional: r.optional, Chosen: r.hub != "", Hubs: st.provider.listHubs(r.hub)}
		return htmlAnswer(http.StatusOK, "consent", page)
	}
	// A page of another site must not make a browser grant anything.
	from := &http.Request{Method: c.method, Header: c.header, Host: c.host}
	if err := http.NewCrossOriginProtection().Check(from); err != nil {
		return refusalPage("The decision did not come from this page.")
	}
	location, refusal := st.consent(c)
	if refusal != "" {
		return refusalPage(refusal)
	}
	return answer{status: http.StatusFound, header: http.Header{"Location": {location}, "Cache-Control": {"no-store"}}}
}

// consent takes a person's decision and returns where the browser goes next, or what is refused, in words.
func (st *state) consent(c *call) (location, refusal string) {
	r, refusal := st.readLink(c)
	if refusal != "" {
		return "", refusal
	}
	switch c.form.Get("decision") {
	case "deny":
		return r.back(url.Values{"error": {"access_denied"}, "error_description": {"The user denied access to the application."}}), ""
	case "grant":
	default:
		return "", "The decision is neither grant nor deny."
	}
	hub := c.form.Get("hub")
	if r.hub != "" && hub != "" && hub != r.hub {
		return "", "The link is for another account."
	}
	if hub == "" {
		hub = r.hub
	}
	box := st.provider.hub(hub)
	if box == nil {
		return "", "You have no access to that account."
	}
	granted, missing := grantable(st.optionsOf(box), r)
	if len(missing) > 0 {
		return "", "Authorization failed because the account lacks access to some of the required scopes: " + strings.Join(missing, ", ") + "."
	}
	code := st.provider.newCode(authCode{
		installKey: installKey{r.app.ClientID, hub}, scopes: granted, redirect: r.redirect, challenge: r.challenge,
	})
	return r.back(url.Values{"code": {code}}), ""
}

// optionsOf reads the options of a hub; those of the hub in hand are locked already.
func (st *state) optionsOf(box *Sandbox) Options {
	if box == st.provider.top {
		return *st.opts
	}
	return box.Options()
}

// grantable splits what is asked for: the scopes that the account gives, sorted, and those required that it can not. Optional ones that it
// lacks are left out silently.
func grantable(o Options, r *request) (granted, missing []string) {
	granted = []string{oauthScope}
	for _, scope := range r.scopes {
		if o.lacks(scope) {
			missing = append(missing, scope)
		}
		granted = append(granted, scope)
	}
	for _, scope := range r.optional {
		if !o.lacks(scope) {
			granted = append(granted, scope)
		}
	}
	slices.Sort(granted)
	return slices.Compact(granted), missing
}

// back is the redirect URL with more parameters, state among them.
func (r *request) back(more url.Values) string {
	u, _ := url.Parse(r.redirect) // was checked when the app was registered
	q := u.Query()
	for k, v := range more {
		q[k] = v
	}
	if r.state != "" {
		q.Set("state", r.state)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// readLink checks an install link. Texts are modelled, save that on scopes that do not match the app's.
func (st *state) readLink(c *call) (r *request, refusal string) {
	q := c.query
	r = &request{
		app: st.provider.app(q.Get("client_id")), redirect: q.Get("redirect_uri"), state: q.Get("state"), challenge: q.Get("code_challenge"),
		scopes: splitScopes(q.Get("scope")), optional: splitScopes(q.Get("optional_scope")),
	}
	if len(c.args) > 0 {
		r.hub = c.args[0]
	}
	switch {
	case r.app == nil:
		return nil, "Authorization failed because the client_id is missing or unknown."
	case !slices.Contains(r.app.RedirectURLs, r.redirect):
		return nil, "Authorization failed because the redirect_uri doesn't match any of the app's redirect URLs."
	case r.hub != "" && st.provider.hub(r.hub) == nil:
		return nil, "You have no access to that account."
	case q.Has("response_type") && q.Get("response_type") != "code":
		return nil, "Authorization failed because the response_type is not code."
	}
	if refusal := r.checkChallenge(q.Get("code_challenge_method")); refusal != "" {
		return nil, refusal
	}
	return r, r.checkScopes()
}

// checkChallenge wants a SHA-256 challenge, or none.
func (r *request) checkChallenge(method string) (refusal string) {
	switch raw, err := base64.RawURLEncoding.DecodeString(r.challenge); {
	case r.challenge == "" && method == "":
		return ""
	case method != "S256":
		return "Authorization failed because the code_challenge_method is not S256."
	case err != nil || len(raw) != 32:
		return "Authorization failed because the code_challenge is no SHA-256 in base64url."
	}
	return ""
}

// checkScopes compares the link's scopes with the app's.
func (r *request) checkScopes() (refusal string) {
	const mismatch = "Authorization failed because there is a mismatch between the scopes in the install URL and the app's configured scopes."
	for _, scope := range r.scopes {
		switch {
		case slices.Contains(r.optional, scope):
			return "Authorization failed because " + scope + " is both in scope and in optional_scope."
		case scope != oauthScope && !slices.Contains(r.app.Scopes, scope):
			return mismatch + " Not required by the app: " + scope + "."
		}
	}
	for _, scope := range r.app.Scopes {
		if scope != oauthScope && !slices.Contains(r.scopes, scope) {
			return mismatch + " Missing in scope: " + scope + "."
		}
	}
	for _, scope := range r.optional {
		if !slices.Contains(r.app.OptionalScopes, scope) {
			return mismatch + " Not optional in the app: " + scope + "."
		}
	}
	if len(r.scopes) == 0 {
		return "Authorization failed because the scope is missing."
	}
	return ""
}

// app returns a copy of the app, or nil.
func (p *provider) app(client string) *App {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.apps[client]
	if a == nil {
		return nil
	}
	one := *a
	return &one
}

// listHubs are those that a person may choose among: all, or the one that the link names.
func (p *provider) listHubs(only string) []Hub {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []Hub
	for _, e := range p.order {
		if only == "" || only == e.ID {
			list = append(list, e.Hub)
		}
	}
	return list
}

func refusalPage(why string) answer {
	return htmlAnswer(http.StatusBadRequest, "refused", consentPage{Refusal: why})
}

func htmlAnswer(status int, name string, page consentPage) answer {
	var b bytes.Buffer
	if err := consentPages.ExecuteTemplate(&b, name, page); err != nil {
		panic("BUG: page " + name + ": " + err.Error())
	}
	return answer{status: status, body: b.Bytes(), header: http.Header{
		"Content-Type": {"text/html; charset=utf-8"},
		// No form-action: it would also forbid the redirect that follows the decision.
		"Content-Security-Policy": {"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"},
		"X-Frame-Options":         {"DENY"},
		"X-Content-Type-Options":  {"nosniff"},
		"Referrer-Policy":         {"no-referrer"},
		"Cache-Control":           {"no-store"},
	}}
}
