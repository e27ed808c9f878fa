package sandbox

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// oauthError is a refusal of the token endpoints. status decides; which error of RFC 6749 stands beside it differs between reports.
type oauthError struct{ status, err, message string }

// Refusals of the token endpoints. All are sent as 400. The texts of BAD_REFRESH_TOKEN and BAD_HUB have been seen, and the words of those about codes; the others are modelled.
var (
	badGrantType    = &oauthError{"BAD_GRANT_TYPE", "unsupported_grant_type", "missing or unknown grant type"}
	badClientID     = &oauthError{"BAD_CLIENT_ID", "invalid_client", "missing or unknown client id"}
	badClientSecret = &oauthError{"BAD_CLIENT_SECRET", "invalid_client", "missing or invalid client secret"}
	badRedirectURI  = &oauthError{"BAD_REDIRECT_URI", "invalid_grant", "missing or unexpected redirect uri"}
	badAuthCode     = &oauthError{"BAD_AUTH_CODE", "invalid_grant", "missing, unknown or used auth code"}
	expiredCode     = &oauthError{"EXPIRED_AUTH_CODE", "invalid_grant", "the auth code has expired"}
	otherRedirect   = &oauthError{"MISMATCH_REDIRECT_URI_AUTH_CODE", "invalid_grant", "the redirect uri is not the one that the auth code was given out for"}
	badCodeVerifier = &oauthError{"BAD_CODE_VERIFIER", "invalid_grant", "missing or invalid code verifier"}
	badRefreshToken = &oauthError{"BAD_REFRESH_TOKEN", "invalid_grant", "refresh token is invalid, expired or revoked"}
	badHub          = &oauthError{"BAD_HUB", "access_denied", "missing or unknown hub id"}
	badToken        = &oauthError{"BAD_TOKEN", "invalid_request", "missing token"} // modelled
)

// refuse answers with e.
func (st *state) refuse(e *oauthError) answer {
	b := append(make([]byte, 0, 256), `{"status":`...)
	b = appendString(b, e.status)
	b = appendMember(b, "message", e.message)
	b = appendMember(b, "error", e.err)
	b = appendMember(b, "error_description", e.message)
	b = appendMember(b, "correlationId", st.correlation)
	return answer{status: http.StatusBadRequest, body: append(b, '}'), header: noStore()}
}

func noStore() http.Header { return http.Header{"Cache-Control": {"no-store"}, "Pragma": {"no-cache"}} }

// client checks the credentials of a form's app.
func (p *provider) clientLocked(c *call) (*App, *oauthError) {
	a := p.apps[c.form.Get("client_id")]
	if a == nil {
		return nil, badClientID
	}
	if subtle.ConstantTimeCompare([]byte(a.ClientSecret), []byte(c.form.Get("client_secret"))) != 1 {
		return nil, badClientSecret
	}
	return a, nil
}

// oauthToken answers POST oauth/token: a code or a refresh token for an access token.
func (st *state) oauthToken(c *call) answer {
	p := st.provider
	p.mu.Lock()
	defer p.mu.Unlock()
	kind := c.form.Get("grant_type")
	if kind != "authorization_code" && kind != "refresh_token" { // client_credentials is for what the sandbox lacks
		return st.refuse(badGrantType)
	}
	app, e := p.clientLocked(c)
	if e != nil {
		return st.refuse(e)
	}
	var in *install
	if kind == "authorization_code" {
		in, e = p.exchangeLocked(app, c)
	} else {
		in, e = p.refreshLocked(app, c, st.opts.RotateRefreshTokens)
	}
	if e != nil {
		return st.refuse(e)
	}
	life := st.opts.tokenLife()
	return tokenAnswer(in, p.accessLocked(in, life), life)
}

// exchangeLocked takes a code. A code that is presented with another redirect URL or a wrong verifier is used up too (modelled).
func (p *provider) exchangeLocked(app *App, c *call) (*install, *oauthError) {
	text := c.form.Get("code")
	code := p.codes[text]
	if code == nil || code.client != app.ClientID {
		return nil, badAuthCode
	}
	delete(p.codes, text)
	switch redirect := c.form.Get("redirect_uri"); {
	case !p.now().Before(code.expires):
		return nil, expiredCode
	case !slices.Contains(app.RedirectURLs, redirect):
		return nil, badRedirectURI
	case code.redirect != redirect:
		return nil, otherRedirect
	case code.challenge != "" && code.challenge != challengeOf(c.form.Get("code_verifier")):
		return nil, badCodeVerifier
	case p.hubs[code.hub] == nil:
		return nil, badHub
	}
	return p.connectLocked(code), nil
}

// challengeOf is the code_challenge that belongs to a verifier, by the method S256.
func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (p *provider) refreshLocked(app *App, c *call, rotate bool) (*install, *oauthError) {
	in := p.refresh[c.form.Get("refresh_token")]
	switch {
	case in == nil || in.client != app.ClientID:
		return nil, badRefreshToken
	case p.hubs[in.hub] == nil:
		return nil, badHub
	}
	if rotate {
		p.renewLocked(in)
	}
	return in, nil
}

// installingUser is the number of the person who connects apps, in every hub.
const installingUser = 9000001

func tokenAnswer(in *install, t *accessToken, life time.Duration) answer {
	b := append(make([]byte, 0, 768), `{"token_type":"bearer"`...)
	b = appendMember(b, "refresh_token", in.refresh)
	b = appendMember(b, "access_token", t.text)
	b = append(b, `,"hub_id":`...)
	b = append(b, in.hub...)
	b = appendScopes(b, t.scopes)
	b = append(b, `,"user_id":`...)
	b = strconv.AppendInt(b, installingUser, 10)
	b = append(b, `,"expires_in":`...)
	b = strconv.AppendInt(b, int64(life/time.Second), 10)
	b = append(b, `,"token_use":"access_token"}`...)
	return answer{status: http.StatusOK, body: b, header: noStore()}
}

func appendScopes(b []byte, scopes []string) []byte {
	b = append(b, `,"scopes":[`...)
	for i, scope := range scopes {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, scope)
	}
	return append(b, ']')
}

// introspect answers POST oauth/token/introspect. Sources disagree on the name of the field that holds the token, so each is read.
func (st *state) introspect(c *call) answer {
	p := st.provider
	p.mu.Lock()
	defer p.mu.Unlock()
	app, e := p.clientLocked(c)
	if e != nil {
		return st.refuse(e)
	}
	token := formToken(c)
	if token == "" {
		return st.refuse(badToken)
	}
	if in, t := p.findLocked(token); in != nil && in.client == app.ClientID {
		return answer{status: http.StatusOK, body: append(p.appendInfo([]byte(`{"active":true,`), in, t, app), '}'), header: noStore()}
	}
	return answer{status: http.StatusOK, body: []byte(`{"active":false}`), header: noStore()}
}

func formToken(c *call) string {
	for _, name := range []string{"token", "access_token", "refresh_token"} {
		if token := c.form.Get(name); token != "" {
			return token
		}
	}
	return ""
}

// findLocked finds a token that is good; t is nil for a refresh token.
func (p *provider) findLocked(token string) (in *install, t *accessToken) {
	if in = p.refresh[token]; in == nil {
		if t = p.access[token]; t == nil || t.dead || !p.now().Before(t.expires) {
			return nil, nil
		}
		in = t.install
	}
	if p.hubs[in.hub] == nil {
		return nil, nil
	}
	return in, t
}

// appendInfo appends the members that tell about a token.
func (p *provider) appendInfo(b []byte, in *install, t *accessToken, app *App) []byte {
	token, scopes, use := in.refresh, in.scopes, "refresh_token"
	if t != nil {
		token, scopes, use = t.text, t.scopes, "access_token"
	}
	b = appendString(append(b, `"token":`...), token)
	b = append(append(b, `,"hub_id":`...), in.hub...)
	b = strconv.AppendInt(append(b, `,"user_id":`...), installingUser, 10)
	b = appendMember(b, "client_id", in.client)
	b = strconv.AppendInt(append(b, `,"app_id":`...), int64(app.ID), 10)
	b = appendMember(b, "user", "admin@hub-"+in.hub+".example")
	b = appendMember(b, "hub_domain", "hub-"+in.hub+".example")
	b = appendScopes(b, scopes)
	if t != nil {
		b = strconv.AppendInt(append(b, `,"expires_in":`...), int64(t.expires.Sub(p.now())/time.Second), 10)
	}
	b = appendMember(b, "token_use", use)
	return appendMember(b, "token_type", "Bearer")
}

// revokeToken answers POST oauth/token/revoke. Only refresh tokens can be revoked, and access tokens got with one outlive it, as
// reported; a token that is unknown is no error (modelled, as in RFC 7009).
func (st *state) revokeToken(c *call) answer {
	p := st.provider
	p.mu.Lock()
	defer p.mu.Unlock()
	app, e := p.clientLocked(c)
	if e != nil {
		return st.refuse(e)
	}
	token := formToken(c)
	if token == "" {
		return st.refuse(badToken)
	}
	if in := p.refresh[token]; in != nil && in.client == app.ClientID {
		p.revokeLocked(in)
	}
	return answer{status: http.StatusOK, header: noStore()}
}

// readToken answers GET oauth/v1/access-tokens/* and GET oauth/v1/refresh-tokens/*.
func (st *state) readToken(c *call) answer {
	p := st.provider
	p.mu.Lock()
	defer p.mu.Unlock()
	in, t := p.findLocked(c.args[0])
	if in == nil || p.apps[in.client] == nil || (t == nil) != (c.route.name == "oauth/refresh-tokens/read") {
		return st.fail(missing("The token is unknown or expired")) // modelled
	}
	return answer{status: http.StatusOK, body: append(p.appendInfo([]byte{'{'}, in, t, p.apps[in.client]), '}'), header: noStore()}
}

// deleteToken answers DELETE oauth/v1/refresh-tokens/*.
func (st *state) deleteToken(c *call) answer {
	p := st.provider
	p.mu.Lock()
	defer p.mu.Unlock()
	in := p.refresh[c.args[0]]
	if in == nil {
		return st.fail(missing("The token is unknown")) // modelled
	}
	p.revokeLocked(in)
	return answer{status: http.StatusNoContent}
}

// uninstallApp answers DELETE appinstalls/external-install: the app removes itself from the hub of its token.
func (st *state) uninstallApp(c *call) answer {
	if c.client == "" {
		return st.fail(&apiError{status: http.StatusForbidden, category: missingScopes, message: "This call needs the OAuth token of an app."}) // modelled
	}
	if err := st.provider.eachInstall(c.client, st.opts.HubID, st.provider.uninstallLocked); err != nil {
		return st.fail(unauthorized())
	}
	return answer{status: http.StatusNoContent}
}
