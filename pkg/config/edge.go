package config

import (
	"crypto/tls"
	"errors"
	"strings"
	"time"
)

// Values of server.admin_access and server.metrics_access.
const (
	AccessLocal  = "local"  // without an admin token, requests that come straight from this machine
	AccessToken  = "token"  // nobody without the admin token
	AccessAdmin  = "admin"  // as the admin routes
	AccessPublic = "public" // everybody
)

// What the limits of connections and requests may be at most: each costs memory.
const (
	maxHeaderSize     = 1 << 20
	maxEventsInABody  = 1_000_000
	maxConnections    = 1 << 20
	maxMinBodyRate    = 1 << 20
	maxEventsAtOnce   = 1e9
	maxReadTimeout    = time.Hour
	shortestTimeLimit = time.Second
)

// tlsSection is `server.tls` as the file spells it.
type tlsSection struct {
	CertFile   string     `yaml:"cert_file"`
	KeyFile    string     `yaml:"key_file"`
	MinVersion tlsVersion `yaml:"min_version"`
}

// tlsVersion is a version of TLS that is not broken.
type tlsVersion uint16

func (v *tlsVersion) UnmarshalText(text []byte) error {
	switch string(text) {
	case "1.2":
		*v = tls.VersionTLS12
	case "1.3":
		*v = tls.VersionTLS13
	default:
		return errors.New(`write "1.2" or "1.3"`)
	}
	return nil
}

// rateLimit is `rate_limit` as the file spells it.
type rateLimit struct {
	EventsPerSecond float64 `yaml:"events_per_second"`
	Burst           int     `yaml:"burst"`
}

// config is r with the default burst: the events of a second.
func (r rateLimit) config() RateLimit {
	if r.EventsPerSecond > 0 && r.Burst == 0 {
		r.Burst = max(1, int(r.EventsPerSecond))
	}
	return RateLimit(r)
}

func (r rateLimit) check(check func(ok bool, key, format string, args ...any)) {
	check(r.EventsPerSecond == 0 || r.EventsPerSecond >= 0.001 && r.EventsPerSecond <= maxEventsAtOnce, "rate_limit.events_per_second",
		"must be 0 (no limit) or from 0.001 to 1000000000")
	check(r.Burst >= 0 && r.Burst <= maxEventsAtOnce, "rate_limit.burst", "must be from 0 (the events of a second) to 1000000000")
	check(r.Burst == 0 || r.EventsPerSecond != 0, "rate_limit.burst", "means nothing without rate_limit.events_per_second")
}

// edge checks what guards the server.
func (l *loader) edge(raw server, check func(ok bool, key, format string, args ...any)) {
	check((raw.TLS.CertFile == "") == (raw.TLS.KeyFile == ""), "tls", "needs both cert_file and key_file")
	check(raw.MaxHeaderSize >= 1<<10 && raw.MaxHeaderSize <= maxHeaderSize, "max_header_size", "must be from 1KiB to 1MiB: each connection may take so much memory")
	check(raw.MaxEvents > 0 && raw.MaxEvents <= maxEventsInABody, "max_events_per_request", "must be from 1 to %d", maxEventsInABody)
	check(raw.MaxConnections > 0 && raw.MaxConnections <= maxConnections, "max_connections", "must be from 1 to %d", maxConnections)
	check(raw.MaxConnectionsPerIP >= 0, "max_connections_per_ip", "must not be negative; 0 is no limit")
	check(raw.ReadTimeout >= shortestTimeLimit && raw.ReadTimeout <= maxReadTimeout, "read_timeout", "must be from 1s to 1h")
	check(raw.IdleTimeout >= shortestTimeLimit && raw.IdleTimeout <= maxReadTimeout, "idle_timeout", "must be from 1s to 1h")
	check(raw.MinBodyRate >= 0 && raw.MinBodyRate <= maxMinBodyRate, "min_body_rate", "must be from 0 (no limit) to 1MiB a second")
	check(raw.AdminAccess == AccessLocal || raw.AdminAccess == AccessToken, "admin_access", "must be local or token")
	check(raw.MetricsAccess == AccessAdmin || raw.MetricsAccess == AccessPublic, "metrics_access", "must be admin or public")
	check(raw.AdminAccess != AccessToken || raw.AdminToken != "", "admin_access", "is token, so server.admin_token is required: without one nobody could see an admin page")
	raw.RateLimit.check(check)
	for i, rule := range raw.Redact {
		check(isRedactRule(rule), "redact", "number %d must be the name of a member such as password, or a path of names such as user.ssn or *.credit_card", i+1)
		if shownAnyway[strings.ToLower(rule)] {
			l.warn(l.root, "server.redact", "%s is hidden in events alone: the router tells events by it in explain, listings and metrics", rule)
		}
	}
}

// shownAnyway are the members by whose values people find events.
var shownAnyway = map[string]bool{"event_type": true, "event_id": true, "eventn_ctx_event_id": true, "messageid": true, "api_key": true}

// isRedactRule says whether rule is names with dots between them, each of which may be a *, but not all nor the last.
func isRedactRule(rule string) bool {
	names := strings.Split(rule, ".")
	for _, name := range names {
		if strings.TrimSpace(name) != name || name == "" || name != "*" && strings.Contains(name, "*") {
			return false
		}
	}
	return names[len(names)-1] != "*"
}

// enforceOrigins is whether only pages of origins may use the client secrets of a key. own is what the key says; nil: nothing.
func (l *loader) enforceOrigins(s Settings, own *bool, k APIKey) bool {
	enforce := l.cfg.Server.EnforceOrigins && k.ClientSecret != ""
	if own != nil {
		enforce = *own
	}
	switch {
	case !enforce || len(k.Origins) > 0:
	case own != nil:
		l.fail(s, "enforce_origins", "needs origins: list the web sites that may send events with the client secret")
	default:
		l.fail(s, "origins", "is required, because server.enforce_origins is on: list the web sites that may send events with the client secret, or write enforce_origins: false")
	}
	return enforce
}

// rateLimitOf is what holds for a key; nil: it has none of its own.
func (l *loader) rateLimitOf(s Settings, own *rateLimit) RateLimit {
	if own == nil {
		return l.cfg.Server.RateLimit
	}
	own.check(func(ok bool, key, format string, args ...any) {
		if !ok {
			l.fail(s, key, format, args...)
		}
	})
	return own.config()
}
