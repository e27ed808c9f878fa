package connections

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/seal"
	"eventrouter/pkg/store"
)

// Links and states are sealed with the keys of server.encryption: who has one can neither read nor change it, and it is good for one app.
const (
	kindLink  = 'L' // app
	kindState = 'S' // app
)

// link is what an install link holds.
type link struct {
	Account string `json:"a"`
	Return  string `json:"r,omitempty"`
	Expires int64  `json:"e"` // Unix seconds
	Made    int64  `json:"m"` // Unix nanoseconds: a link is spent when its account has connected, or disconnected, since
}

// state is what the browser brings back from HubSpot. What belongs to it is in the store, under a hash of ID: see store.Connecting.
type state struct {
	ID      []byte `json:"i"`
	Expires int64  `json:"e"`
	Made    int64  `json:"m"` // of the link
}

// Link returns an install link for an account: a page of this router that sends the browser on to HubSpot. Whoever opens it before it expires may connect a HubSpot account
// of theirs, unless the account has connected or disconnected since, and be sent to returnURL at the end if that is not "". Errors: ErrNoApp, ErrAccount, ErrReturnURL.
func (s *Service) Link(appName, account, returnURL string) (address string, expires time.Time, err error) {
	ap := s.app(appName)
	if ap == nil {
		return "", time.Time{}, ErrNoApp
	}
	if err := CheckAccount(account); err != nil {
		return "", time.Time{}, err
	}
	if returnURL != "" && !ap.mayReturn(returnURL) {
		return "", time.Time{}, ErrReturnURL
	}
	now := s.opts.Now()
	expires = now.Add(ap.cfg.LinkAge).UTC().Truncate(time.Second)
	text := s.seal(kindLink, appName, link{account, returnURL, expires.Unix(), now.UnixNano()})
	return ap.home + "start?link=" + text, expires, nil
}

// linksSince is when the oldest links were made that may be good yet.
func (s *Service) linksSince(now time.Time) time.Time {
	age := 24 * time.Hour // of an app that is not in the configuration at present
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, ap := range s.apps {
		age = max(age, ap.cfg.LinkAge)
	}
	return now.Add(-age)
}

func (s *Service) seal(kind byte, appName string, v any) string {
	plain, _ := json.Marshal(v) // of strings and numbers: can not fail
	return base64.RawURLEncoding.EncodeToString(s.box.Seal(nil, plain, seal.Name{Kind: kind, Text: appName}))
}

// open is the inverse of seal; false: it was not made by this router, or for something else.
func (s *Service) open(kind byte, appName, text string, v any) bool {
	if len(text) > 8<<10 {
		return false
	}
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return false
	}
	plain, err := s.box.Open(nil, sealed, seal.Name{Kind: kind, Text: appName})
	return err == nil && json.Unmarshal(plain, v) == nil
}

// mayReturn says whether a browser may be sent to an address: below one of return_urls, or to the app's own pages of this router. An address that browsers and servers may
// read in different ways is none.
func (ap *app) mayReturn(text string) bool {
	if len(text) > 2048 || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '\\' || r == '#' }) {
		return false
	}
	u, err := url.Parse(text)
	if err != nil || u.User != nil || u.Opaque != "" || u.Host == "" || !soundPath(u) {
		return false
	}
	return slices.ContainsFunc(append([]string{ap.home + "portal"}, ap.cfg.ReturnURLs...), func(allowed string) bool {
		a, err := url.Parse(allowed)
		return err == nil && a.Host != "" && a.Scheme == u.Scheme && strings.EqualFold(a.Host, u.Host) && below(u.Path, a.Path)
	})
}

// soundPath refuses what climbs up in a path, also in disguise.
func soundPath(u *url.URL) bool {
	path := strings.ToLower(u.EscapedPath())
	if strings.Contains(path, "%2f") || strings.Contains(path, "%5c") || strings.Contains(path, "%25") || strings.Contains(u.Path, "//") {
		return false
	}
	return !slices.ContainsFunc(strings.Split(u.Path, "/"), func(part string) bool {
		part, _, _ = strings.Cut(part, ";") // what follows is a parameter to some servers
		return part == "." || part == ".."
	})
}

// below says whether path is prefix or goes on behind it with another part.
func below(path, prefix string) bool {
	prefix = strings.TrimSuffix(prefix, "/")
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// secure says whether browsers reach the router's pages by https. Without it, as on a developer's machine, a cookie can not have the prefix that binds it to the host.
func (ap *app) secure() bool { return strings.HasPrefix(ap.cfg.RedirectURL, "https:") }

// cookieName is the name of the cookie that goes with a state: each has its own, so that two tabs do not disturb each other.
func (ap *app) cookieName(hash []byte) string {
	name := "connect-" + hex.EncodeToString(hash[:8])
	if ap.secure() {
		return "__Host-" + name
	}
	return name
}

func (ap *app) cookie(hash []byte, value string, age time.Duration) *http.Cookie {
	c := &http.Cookie{Name: ap.cookieName(hash), Value: value, Path: "/", MaxAge: int(age / time.Second), Secure: ap.secure(), HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if value == "" {
		c.MaxAge = -1
	}
	return c
}

func randomText() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

func hashOf(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

// secrets of a store.Connecting.
const (
	secretVerifier = 0 // of PKCE
	secretCookie   = 1 // a hash of it, in base64
	secretReturn   = 2 // the return URL
)

// start sends a browser that comes with an install link on to HubSpot.
func (s *Service) start(w http.ResponseWriter, r *http.Request, ap *app) {
	var l link
	if !s.open(kindLink, ap.cfg.Name, r.URL.Query().Get("link"), &l) {
		s.show(w, r, ap, outcomeBadLink, "")
		return
	}
	now := s.opts.Now()
	if now.Unix() >= l.Expires || now.UnixNano() >= l.Made+int64(ap.cfg.LinkAge) { // link_age may be less by now
		s.show(w, r, ap, outcomeOldLink, l.Return)
		return
	}
	if a := s.find(id{ap.cfg.Name, l.Account}); a != nil && a.spent(l.Made, now) {
		s.show(w, r, ap, outcomeUsedLink, l.Return)
		return
	}
	secret, verifier, cookie := randomText(), randomText(), randomText()
	hash := hashOf(secret)
	expires := now.Add(ap.cfg.StateAge)
	g := &store.Connecting{
		ID: hash, App: ap.cfg.Name, Account: l.Account, Expires: expires,
		Secrets: [3]string{secretVerifier: verifier, secretCookie: base64.RawURLEncoding.EncodeToString(hashOf(cookie)), secretReturn: l.Return},
	}
	// Those who have expired are kept for a while, to be sent back to where they came from with the right words.
	if err := s.opts.Store.PutConnecting(r.Context(), g, now.Add(-time.Hour)); err != nil {
		s.opts.Logger.Error("nobody can connect: it can not be written down", "app", ap.cfg.Name, "error", err.Error())
		s.show(w, r, ap, outcomeUnavailable, l.Return)
		return
	}
	http.SetCookie(w, ap.cookie(hash, cookie, ap.cfg.StateAge))
	w.Header().Set("Location", ap.authorizeURL(s.seal(kindState, ap.cfg.Name, state{[]byte(secret), expires.Unix(), l.Made}), verifier))
	w.WriteHeader(http.StatusSeeOther)
}

func (ap *app) authorizeURL(state, verifier string) string {
	q := url.Values{
		"client_id": {ap.cfg.ClientID}, "redirect_uri": {ap.cfg.RedirectURL}, "response_type": {"code"}, "scope": {strings.Join(ap.cfg.Scopes, " ")}, "state": {state},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(hashOf(verifier))}, "code_challenge_method": {"S256"},
	}
	if len(ap.cfg.OptionalScopes) > 0 {
		q.Set("optional_scope", strings.Join(ap.cfg.OptionalScopes, " "))
	}
	return ap.cfg.AuthorizeURL + "?" + strings.ReplaceAll(q.Encode(), "+", "%20") // as HubSpot writes it; a plus itself is encoded
}

// fromHere says whether a browser has the cookie that its state was given out with.
func fromHere(r *http.Request, ap *app, hash []byte, want string) bool {
	c, err := r.Cookie(ap.cookieName(hash))
	if err != nil {
		return false
	}
	got := base64.RawURLEncoding.EncodeToString(hashOf(c.Value))
	return subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1
}

// missing are those of the scopes that were asked for which were not granted. Every app has oauth, named or not.
func missing(cfg config.App, granted []string) (lacks []string) {
	for _, scope := range cfg.Scopes {
		if scope != "oauth" && !slices.Contains(granted, scope) {
			lacks = append(lacks, scope)
		}
	}
	return lacks
}
