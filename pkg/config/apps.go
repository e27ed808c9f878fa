package config

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// App is one element of `apps`: an app in HubSpot that the team's customers install, each in an account of its own.
type App struct {
	Name           string        // its key in the map
	Type           string        // type: hubspot
	ClientID       string        // client_id
	ClientSecret   Secret        // client_secret
	RedirectURL    string        // redirect_url: where HubSpot sends the browser back to; its path is one of this router's, as is its origin
	Scopes         []string      // scopes: that an account must grant
	OptionalScopes []string      // optional_scopes: that are granted where the account can
	ReturnURLs     []string      // return_urls: where browsers may be sent at the end: a URL, or what it begins with
	AuthorizeURL   string        // authorize_url: HubSpot's page of consent; default https://app.hubspot.com/oauth/authorize
	BaseURL        string        // base_url: of the API; default https://api.hubapi.com
	APIVersion     string        // api_version: of the token calls: 2026-03 (default), 2026-09 or v1
	LinkAge        time.Duration // link_age: how long an install link is good; default 1h
	StateAge       time.Duration // state_age: how long a person may take at HubSpot; default 15m
	Notify         string        // notify: the webhook destination that is told of changes of connections; "": nobody
	Tokens         EndUserTokens
	Portal         Portal
	Proxy          Proxy
	// AppEvents are `app_events`, undecoded: package appevents compiles them. They do not exist when absent.
	AppEvents Settings
	// Schemas are the files that app_events name, by their names as they stand there.
	Schemas map[string]string
	// RateLimit is `rate_limit`: what one account may post with tokens; default 50 a second, and 500 at once.
	RateLimit RateLimit
	Pos       Pos
}

// EndUserTokens is `tokens` of an app: whose signed tokens speak for an account, the one that they name as `sub`.
type EndUserTokens struct {
	// Keys are `keys` and what stands in `key_files`: public keys in PEM, RSA of 2048 bits and more, P-256, P-384, P-521 or Ed25519. Package endusers reads them.
	Keys     []KeyText
	JWKSURL  string        // jwks_url: where a JSON Web Key Set stands
	Audience string        // audience: that a token must name; "": any, and tokens without one, which keys at a URL do not allow
	Issuer   string        // issuer: that a token must name; "": any
	Skew     time.Duration // skew: by which clocks may differ; default 60s
	MaxAge   time.Duration // max_age: longest from iat to exp; default 24h
}

// KeyText is a text that should hold public keys, with its place.
type KeyText struct {
	Text string
	Path string // such as apps.crm.tokens.keys[0]
	Pos  Pos
}

// Portal is `portal` of an app: the page where an account connects and chooses.
type Portal struct {
	Parents []string // parents: origins of pages that may embed it, such as https://app.example.com
	Title   string   // title: the team's product, as the page names it; default: the app's name
	Options []PortalOption
}

// PortalOption is one element of `portal.options`: something that an account may switch on or off.
type PortalOption struct {
	Name    string            // its key in the map
	Label   map[string]string // label: by language, en and de; default: the name
	Default bool              // default: on or off for accounts that have not chosen; default true
	// Properties are contact properties that are written only while the option is on; Events, event types that are sent only then.
	Properties []string
	Events     []string
}

// Proxy is `proxy` of an app: which calls may be made in an account with its token.
type Proxy struct {
	Allow []string // allow: names of presets, or a method (or ANY) and a path as in "GET /crm/objects/2026-03/contacts/*"; default none
	// AllowEndUsers are `allow_end_users`: those of them that end users may make as well, with their tokens; written as in Allow, and need not stand there; default none.
	AllowEndUsers []string
	Timeout       time.Duration // timeout: of one call; default 30s
	MaxBytes      int64         // max_bytes: of a request's body and of an answer's; default 10 MiB
}

type app struct {
	Type           string        `yaml:"type"`
	ClientID       Text          `yaml:"client_id"`
	ClientSecret   Secret        `yaml:"client_secret"`
	RedirectURL    string        `yaml:"redirect_url"`
	Scopes         Words         `yaml:"scopes"`
	OptionalScopes Words         `yaml:"optional_scopes"`
	ReturnURLs     Words         `yaml:"return_urls"`
	AuthorizeURL   string        `yaml:"authorize_url"`
	BaseURL        string        `yaml:"base_url"`
	APIVersion     Text          `yaml:"api_version"`
	LinkAge        time.Duration `yaml:"link_age"`
	StateAge       time.Duration `yaml:"state_age"`
	Notify         string        `yaml:"notify"`
	Tokens         endUserTokens `yaml:"tokens"`
	Portal         portal        `yaml:"portal"`
	Proxy          appProxy      `yaml:"proxy"`
	AppEvents      Settings      `yaml:"app_events"`
	RateLimit      rateLimit     `yaml:"rate_limit"`
}

type endUserTokens struct {
	Keys     Words         `yaml:"keys"`
	KeyFiles Words         `yaml:"key_files"`
	JWKSURL  string        `yaml:"jwks_url"`
	Audience string        `yaml:"audience"`
	Issuer   string        `yaml:"issuer"`
	Skew     time.Duration `yaml:"skew"`
	MaxAge   time.Duration `yaml:"max_age"`
}

type portal struct {
	Parents Words    `yaml:"parents"`
	Title   string   `yaml:"title"`
	Options Settings `yaml:"options"`
}

type portalOption struct {
	Label      map[string]string `yaml:"label"`
	Default    bool              `yaml:"default"`
	Properties Words             `yaml:"properties"`
	Events     Words             `yaml:"events"`
}

type appProxy struct {
	Allow         Words         `yaml:"allow"`
	AllowEndUsers Words         `yaml:"allow_end_users"`
	Timeout       time.Duration `yaml:"timeout"`
	MaxBytes      Size          `yaml:"max_bytes"`
}

// DefaultApp is an app of which the file says nothing but its name.
func DefaultApp(name string) App {
	return App{
		Name: name, Type: "hubspot",
		AuthorizeURL: "https://app.hubspot.com/oauth/authorize", BaseURL: "https://api.hubapi.com", APIVersion: "2026-03",
		LinkAge: time.Hour, StateAge: 15 * time.Minute,
		Tokens: EndUserTokens{Skew: time.Minute, MaxAge: 24 * time.Hour},
		Portal: Portal{Title: name},
		Proxy:  Proxy{Timeout: 30 * time.Second, MaxBytes: 10 << 20},

		RateLimit: RateLimit{EventsPerSecond: 50, Burst: 500},
	}
}

// apps reads the section; destinations are read before it.
func (l *loader) apps(section Settings) {
	switch {
	case section.node.empty():
	case section.node.kind != mapping:
		l.fail(section, "", "must be a map from the name of an app to its settings")
	default:
		l.sound(section.node, placeOf(section))
		for _, m := range section.Members() {
			a := l.app(m.Key, m.Value)
			if i := slices.IndexFunc(l.cfg.Apps, func(o App) bool { return a.ClientID != "" && o.ClientID == a.ClientID }); i >= 0 {
				l.warn(m.Value, "client_id", "is that of the app %s, too: where accounts of both connect one hub, HubSpot gives them the same tokens, and disconnecting one takes the other's", l.cfg.Apps[i].Name)
			}
			l.cfg.Apps = append(l.cfg.Apps, a)
		}
		if _, seals := l.cfg.Server.Encryption.Keys.Sealing(); !l.withoutKeys && !seals {
			l.fail(section, "", "needs server.encryption.key: customers' tokens are not kept on disk in the clear; router keygen prints a key")
		}
	}
	for _, d := range l.cfg.Destinations {
		if d.Connection != "" && !slices.ContainsFunc(l.cfg.Apps, func(a App) bool { return a.Name == d.Connection }) {
			l.problems = append(l.problems, Problem{Pos: d.Settings.Pos(), Path: "destinations." + d.Name + ".connection", Text: fmt.Sprintf("%q is none of apps", d.Connection)})
		}
	}
}

func (l *loader) app(name string, s Settings) App {
	a := DefaultApp(name)
	a.Pos = s.Pos()
	if !destinationName.MatchString(name) {
		l.fail(s, "", "a name is made of 1 to 64 letters, digits, _ and -")
	}
	if s.node.kind != mapping {
		l.fail(s, "", "must hold keys with values: type, client_id, client_secret, redirect_url, scopes")
		return a
	}
	raw := app{
		Type: a.Type, AuthorizeURL: a.AuthorizeURL, BaseURL: a.BaseURL, APIVersion: Text(a.APIVersion), LinkAge: a.LinkAge, StateAge: a.StateAge,
		Tokens: endUserTokens{Skew: a.Tokens.Skew, MaxAge: a.Tokens.MaxAge},
		Portal: portal{Title: a.Portal.Title},
		Proxy:  appProxy{Timeout: a.Proxy.Timeout, MaxBytes: Size(a.Proxy.MaxBytes)},

		RateLimit: rateLimit(a.RateLimit),
	}
	l.decodeInto(s, &raw)
	a.Type, a.ClientID, a.ClientSecret, a.RedirectURL = raw.Type, string(raw.ClientID), raw.ClientSecret, raw.RedirectURL
	a.Scopes, a.OptionalScopes, a.ReturnURLs = raw.Scopes, raw.OptionalScopes, raw.ReturnURLs
	a.AuthorizeURL, a.BaseURL, a.APIVersion = raw.AuthorizeURL, strings.TrimRight(raw.BaseURL, "/"), string(raw.APIVersion)
	a.LinkAge, a.StateAge, a.Notify, a.AppEvents = raw.LinkAge, raw.StateAge, raw.Notify, raw.AppEvents
	a.RateLimit = RateLimit(raw.RateLimit)
	a.Schemas = l.schemas(a.AppEvents)
	a.Tokens = EndUserTokens{l.keyTexts(s, raw.Tokens), raw.Tokens.JWKSURL, raw.Tokens.Audience, raw.Tokens.Issuer, raw.Tokens.Skew, raw.Tokens.MaxAge}
	a.Portal = Portal{Parents: raw.Portal.Parents, Title: raw.Portal.Title, Options: l.portalOptions(raw.Portal.Options)}
	a.Proxy = Proxy{raw.Proxy.Allow, raw.Proxy.AllowEndUsers, raw.Proxy.Timeout, int64(raw.Proxy.MaxBytes)}
	l.checkApp(s, a)
	return a
}

func (l *loader) portalOptions(section Settings) (options []PortalOption) {
	for _, m := range section.Members() {
		raw := portalOption{Default: true}
		l.decodeInto(m.Value, &raw)
		if !destinationName.MatchString(m.Key) {
			l.fail(m.Value, "", "a name is made of 1 to 64 letters, digits, _ and -")
		}
		if len(raw.Properties)+len(raw.Events) == 0 {
			l.fail(m.Value, "", "needs properties or events: what is sent only while the option is on")
		}
		for language := range raw.Label {
			if language != "en" && language != "de" {
				l.fail(m.Value, "label", "%q is none of the page's languages: en, de", language)
			}
		}
		options = append(options, PortalOption{m.Key, raw.Label, raw.Default, raw.Properties, raw.Events})
	}
	return options
}

// proxyRule is a method and a path, of which one part may be a *, and the end may be.
var proxyRule = regexp.MustCompile(`^(ANY|GET|HEAD|POST|PUT|PATCH|DELETE) /[!-~]*$|^[a-z][a-z0-9._-]*$`)

// checkApp reports everything that is wrong with an app. Keys in PEM are checked by package endusers, app events by package appevents.
func (l *loader) checkApp(s Settings, a App) {
	check := func(ok bool, key, format string, args ...any) {
		if !ok {
			l.fail(s, key, format, args...)
		}
	}
	check(a.Type == "hubspot", "type", "must be hubspot")
	check(a.ClientID != "", "client_id", "is required: it stands on the app's page in HubSpot")
	check(a.ClientSecret != "", "client_secret", "is required: it stands on the app's page in HubSpot")
	check(isWebURL(a.RedirectURL) && strings.HasSuffix(a.RedirectURL, "/connect/"+a.Name+"/callback"), "redirect_url",
		"must be this router's public URL with /connect/%s/callback behind it, as in https://events.example.com/connect/%s/callback; the app in HubSpot must name the same", a.Name, a.Name)
	if exposed(a.RedirectURL) {
		l.warn(s, "redirect_url", "HubSpot sends browsers to https only, save on localhost")
	}
	check(len(a.Scopes) > 0, "scopes", "is required, such as [crm.objects.contacts.read, crm.objects.contacts.write]; the app in HubSpot must name the same")
	for _, scope := range a.OptionalScopes {
		check(!slices.Contains(a.Scopes, scope), "optional_scopes", "%s stands in scopes, too: HubSpot refuses to install such an app", scope)
	}
	for _, u := range a.ReturnURLs {
		check(isWebURL(u), "return_urls", "%s must be a URL with a host, such as https://app.example.com/settings", u)
	}
	check(isBaseURL(a.AuthorizeURL), "authorize_url", "must be an http or https URL without a query")
	check(isBaseURL(a.BaseURL), "base_url", "must be an http or https URL without a query")
	check(slices.Contains([]string{"2026-03", "2026-09", "v1"}, a.APIVersion), "api_version", "must be 2026-03, 2026-09 or v1")
	check(a.LinkAge >= time.Minute, "link_age", "must be at least 1m")
	check(a.StateAge >= time.Minute, "state_age", "must be at least 1m")
	check(a.Tokens.Skew >= 0 && a.Tokens.Skew <= time.Hour, "tokens.skew", "must be from 0s to 1h")
	check(a.Tokens.MaxAge > 0, "tokens.max_age", "must be more than 0")
	check(a.Tokens.JWKSURL == "" || isWebURL(a.Tokens.JWKSURL), "tokens.jwks_url", "must be an http or https URL")
	check(!exposed(a.Tokens.JWKSURL), "tokens.jwks_url", "must be an https URL: who is between this machine and that one could put keys of their own there, and speak for every account")
	check(a.Tokens.JWKSURL == "" || a.Tokens.Audience != "", "tokens.audience",
		"is required with tokens.jwks_url: else any token that a key from there has signed, for whatever purpose, speaks for the account that it names as sub; name what your server writes as aud, such as router")
	check(a.RateLimit.EventsPerSecond >= 0, "rate_limit.events_per_second", "must not be negative; 0 is no limit")
	check(a.RateLimit.EventsPerSecond == 0 || a.RateLimit.Burst > 0, "rate_limit.burst", "must be more than 0")
	for _, p := range a.Portal.Parents {
		check(isOrigin(p), "portal.parents", "%s must be an origin as browsers write it, such as https://app.example.com: small letters, no path, no port that is the default", p)
	}
	for key, list := range map[string][]string{"proxy.allow": a.Proxy.Allow, "proxy.allow_end_users": a.Proxy.AllowEndUsers} {
		for _, rule := range list {
			check(proxyRule.MatchString(rule), key, "%q must be the name of a preset, or a method and a path as in: GET /crm/objects/2026-03/contacts/*", rule)
		}
	}
	check(a.Proxy.Timeout > 0 && a.Proxy.Timeout <= 10*time.Minute, "proxy.timeout", "must be from 1ms to 10m")
	check(a.Proxy.MaxBytes > 0, "proxy.max_bytes", "must be more than 0")
	if a.Notify != "" {
		i := slices.IndexFunc(l.cfg.Destinations, func(d Destination) bool { return d.Name == a.Notify })
		check(i >= 0 && l.cfg.Destinations[i].Type == "webhook", "notify", "%q is no destination of the type webhook", a.Notify)
	}
}

func isWebURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil && u.Fragment == ""
}

// originHost is a host, with a port or not, as it stands in an origin.
var originHost = regexp.MustCompile(`^([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:]+\])(:[1-9][0-9]{0,4})?$`)

// isOrigin says whether a text is an origin, letter for letter as browsers give it to pages, which compare it so.
func isOrigin(text string) bool {
	scheme, host, ok := strings.Cut(text, "://")
	defaultPort := map[string]string{"http": ":80", "https": ":443"}[scheme]
	return ok && defaultPort != "" && originHost.MatchString(host) && !strings.HasSuffix(host, defaultPort)
}

func isBaseURL(text string) bool { return isWebURL(text) && !strings.Contains(text, "?") }
