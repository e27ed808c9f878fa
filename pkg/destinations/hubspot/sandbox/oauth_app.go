package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// App is an OAuth app as its developer registered it.
type App struct {
	ClientID string `json:"client_id"`
	// ClientSecret also signs the app's webhooks.
	ClientSecret string `json:"client_secret,omitempty"`
	Name         string `json:"name"`   // that people see when they connect it; default: the client id
	ID           int    `json:"app_id"` // default 19083857
	// RedirectURLs are where people may be sent back to: https, or http on this machine.
	RedirectURLs []string `json:"redirect_urls"`
	// Scopes are required: each install link must name them all in scope. The scope oauth need not be given.
	Scopes []string `json:"scopes"`
	// OptionalScopes may be asked for in optional_scope. A hub without them grants the rest.
	OptionalScopes []string `json:"optional_scopes"`
	// WebhookURL is told when a hub uninstalls the app; "": nobody is.
	WebhookURL string `json:"webhook_url,omitempty"`
}

// Hub is an account beside the one that Options.HubID names. It has records, definitions, quotas, faults and options of its own.
type Hub struct {
	ID   string `json:"id"`
	Name string `json:"name"` // that people choose it by; default "Hub " and the id
	// Tier is free, starter, professional or enterprise; "": that of the sandbox's Options. Only enterprise has the scopes of custom events.
	Tier string `json:"tier,omitempty"`
}

// Hubs are n hubs with the ids from first on, such as the customers of a load test. One takes memory when it is first used.
func Hubs(first, n int) []Hub {
	list := make([]Hub, n)
	for i := range list {
		list[i].ID = strconv.Itoa(first + i)
	}
	return list
}

// oauthScope is what every app has.
const oauthScope = "oauth"

// What an app gets when its options do not say otherwise.
const (
	defaultAppID     = 19083857
	defaultTokenLife = 30 * time.Minute
	defaultAppBurst  = 110 // calls per ten seconds, in each hub
	codeLife         = 5 * time.Minute
)

// maxTokenSeconds bounds what the life of access tokens can be set to: a day.
const maxTokenSeconds = 24 * 60 * 60

// tokenLife is the life of access tokens.
func (o *Options) tokenLife() time.Duration { return cmp.Or(o.AccessTokenLife, defaultTokenLife) }

// complete fills in defaults and checks the app.
func (a *App) complete() error {
	a.Name, a.ID = cmp.Or(a.Name, a.ClientID), cmp.Or(a.ID, defaultAppID)
	switch {
	case a.ClientID == "" || a.ClientSecret == "":
		return errors.New("client_id and client_secret are required")
	case strings.ContainsAny(a.ClientID, "/*") || strings.ContainsFunc(a.ClientID, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return errors.New("client_id must be plain characters without / and *")
	case len(a.RedirectURLs) == 0:
		return errors.New("redirect_urls: at least one is required")
	case a.ID < 0:
		return errors.New("app_id must not be negative")
	}
	for _, text := range a.RedirectURLs {
		if err := checkURL(text); err != nil {
			return fmt.Errorf("redirect_urls: %w", err)
		}
	}
	if a.WebhookURL != "" {
		if err := checkURL(a.WebhookURL); err != nil {
			return fmt.Errorf("webhook_url: %w", err)
		}
	}
	for _, scope := range slices.Concat(a.Scopes, a.OptionalScopes) {
		if scope == "" || strings.ContainsAny(scope, " \t\r\n") {
			return fmt.Errorf("scopes: %.100q is none", scope)
		}
		if slices.Contains(a.Scopes, scope) && slices.Contains(a.OptionalScopes, scope) {
			return fmt.Errorf("scopes: %.100q is both required and optional", scope)
		}
	}
	return nil
}

// checkURL wants https, or http on this machine, as HubSpot does.
func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Fragment != "":
		return fmt.Errorf("%.200q is no absolute URL", text)
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, u.Hostname()):
		return nil
	}
	return fmt.Errorf("%.200q must begin with https://, or with http:// on localhost", text)
}

// tiers are what a Hub's Tier can be.
var tiers = []string{"", "free", "starter", "professional", "enterprise"}

// complete fills in defaults and checks the hub.
func (h *Hub) complete() error {
	if n, err := strconv.ParseUint(h.ID, 10, 31); err != nil || strconv.FormatUint(n, 10) != h.ID || n == 0 {
		return fmt.Errorf("id %.40q must be a whole number from 1", h.ID)
	}
	if !slices.Contains(tiers, h.Tier) {
		return fmt.Errorf("tier %.40q is none of %s", h.Tier, strings.Join(tiers[1:], ", "))
	}
	h.Name = cmp.Or(h.Name, "Hub "+h.ID)
	return nil
}

// apply makes o the options of the hub's own sandbox.
func (h *Hub) apply(o Options) Options {
	o.HubID, o.Apps, o.Hubs = h.ID, nil, nil
	if h.Tier != "" {
		o.NoEnterprise = h.Tier != "enterprise"
	}
	return o
}

// lacks reports whether the account can not give a scope, whatever the app.
func (o *Options) lacks(scope string) bool {
	enterprise := scope == sendEvents || scope == eventDefinition
	return scope != "" && slices.Contains(o.MissingScopes, scope) || enterprise && o.NoEnterprise
}

// splitScopes reads a list of scopes as it stands in a URL.
func splitScopes(text string) []string { return strings.Fields(text) }
