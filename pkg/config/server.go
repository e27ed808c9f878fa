package config

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"
)

// server is the `server` section as the file spells it.
type server struct {
	Name           string        `yaml:"name"`
	Host           string        `yaml:"host"`
	Port           int           `yaml:"port"`
	AdminToken     Secret        `yaml:"admin_token"`
	Log            serverLog     `yaml:"log"`
	MaxEventSize   Size          `yaml:"max_event_size"`
	MaxBodySize    Size          `yaml:"max_body_size"`
	MaxBulkSize    Size          `yaml:"max_bulk_size"`
	DataDir        string        `yaml:"data_dir"`
	MaxLogBytes    Size          `yaml:"max_log_bytes"`
	MinFreeBytes   Size          `yaml:"min_free_bytes"`
	TrustedProxies []proxy       `yaml:"trusted_proxies"`
	Grace          time.Duration `yaml:"grace"`
	Dedupe         dedupe        `yaml:"dedupe"`
	Outcomes       outcomes      `yaml:"outcomes"`
	DeadLetters    deadLetters   `yaml:"dead_letters"`
	Identities     identities    `yaml:"identities"`
	KV             kv            `yaml:"kv"`
	EventsCache    eventsCache   `yaml:"events_cache"`
	Encryption     encryption    `yaml:"encryption"`

	StaticFilesDir  string          `yaml:"static_files_dir"`
	EventEnrichment eventEnrichment `yaml:"event_enrichment"`
	UA              ua              `yaml:"ua"`

	APIKeysReloadSec      int           `yaml:"api_keys_reload_sec"`
	DestinationsReloadSec int           `yaml:"destinations_reload_sec"`
	TLS                   tlsSection    `yaml:"tls"`
	MaxHeaderSize         Size          `yaml:"max_header_size"`
	MaxEvents             int           `yaml:"max_events_per_request"`
	MaxConnections        int           `yaml:"max_connections"`
	MaxConnectionsPerIP   int           `yaml:"max_connections_per_ip"`
	ReadTimeout           time.Duration `yaml:"read_timeout"`
	IdleTimeout           time.Duration `yaml:"idle_timeout"`
	MinBodyRate           Size          `yaml:"min_body_rate"`
	RateLimit             rateLimit     `yaml:"rate_limit"`
	EnforceOrigins        bool          `yaml:"enforce_origins"`
	AdminAccess           string        `yaml:"admin_access"`
	MetricsAccess         string        `yaml:"metrics_access"`
	Redact                Words         `yaml:"redact"`
}

type serverLog struct {
	Level  logLevel `yaml:"level"`
	Format string   `yaml:"format"`
}

type dedupe struct {
	Window time.Duration `yaml:"window"`
	MaxIDs int           `yaml:"max_ids"`
}

type outcomes struct {
	MaxBytes Size          `yaml:"max_bytes"`
	MaxAge   time.Duration `yaml:"max_age"`
}

type deadLetters struct {
	MaxBytes Size          `yaml:"max_bytes"`
	MaxAge   time.Duration `yaml:"max_age"`
}

type identities struct {
	MaxAge     time.Duration `yaml:"max_age"`
	MaxEntries int           `yaml:"max_entries"`
}

type kv struct {
	MaxEntries int  `yaml:"max_entries"`
	MaxBytes   Size `yaml:"max_bytes"`
}

type eventsCache struct {
	Capacity int           `yaml:"capacity"`
	Interval time.Duration `yaml:"interval"`
}

type eventEnrichment struct {
	HTTPContext   bool `yaml:"http_context"`
	AnonymousHash bool `yaml:"hashed_anonymous_id"`
	UserAgent     bool `yaml:"user_agent"`
	Location      bool `yaml:"location"`
}

type ua struct {
	BotKeywords []string `yaml:"bot_keywords"`
}

// logLevel is a slog.Level by the names that Jitsu knows.
type logLevel slog.Level

func (l *logLevel) UnmarshalText(text []byte) error {
	switch strings.ToLower(string(text)) {
	case "debug":
		*l = logLevel(slog.LevelDebug)
	case "info":
		*l = logLevel(slog.LevelInfo)
	case "warn", "warning":
		*l = logLevel(slog.LevelWarn)
	case "error":
		*l = logLevel(slog.LevelError)
	default:
		return errors.New("write debug, info, warn or error")
	}
	return nil
}

// proxy is a network, or an address as a network of one.
type proxy netip.Prefix

func (p *proxy) UnmarshalText(text []byte) error {
	if addr, err := netip.ParseAddr(string(text)); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		*p = proxy(netip.PrefixFrom(addr, addr.BitLen()))
		return nil
	}
	network, err := netip.ParsePrefix(string(text))
	if err != nil {
		return errors.New("write an address such as 10.1.2.3 or a network such as 10.0.0.0/8")
	}
	*p = proxy(network.Masked())
	return nil
}

func serverOf(s Server) server {
	raw := server{
		Name: s.Name, Host: s.Host, Port: s.Port, AdminToken: s.AdminToken,
		Log:          serverLog{Level: logLevel(s.LogLevel), Format: s.LogFormat},
		MaxEventSize: Size(s.MaxEventBytes), MaxBodySize: Size(s.MaxBodyBytes), MaxBulkSize: Size(s.MaxBulkBytes),
		DataDir: s.DataDir, MaxLogBytes: Size(s.MaxLogBytes), MinFreeBytes: Size(s.MinFreeBytes),
		Grace:  s.Grace,
		Dedupe: dedupe{Window: s.DedupeWindow, MaxIDs: s.DedupeMaxIDs},

		Outcomes:    outcomes{MaxBytes: Size(s.OutcomesMaxBytes), MaxAge: s.OutcomesMaxAge},
		DeadLetters: deadLetters{MaxBytes: Size(s.DeadLettersMaxBytes), MaxAge: s.DeadLettersMaxAge},
		Identities:  identities{MaxAge: s.IdentitiesMaxAge, MaxEntries: s.IdentitiesMaxEntries},
		KV:          kv{MaxEntries: s.KVMaxEntries, MaxBytes: Size(s.KVMaxBytes)},
		EventsCache: eventsCache{Capacity: s.EventsCacheCapacity, Interval: s.EventsCacheInterval},

		Encryption: encryption{s.Encryption.Key, s.Encryption.KeyFile, s.Encryption.OldKeys},

		StaticFilesDir:  s.StaticFilesDir,
		EventEnrichment: eventEnrichment{HTTPContext: s.HTTPContext, AnonymousHash: s.AnonymousHash, UserAgent: s.EnrichUserAgents, Location: s.EnrichLocations},
		UA:              ua{s.BotKeywords},

		APIKeysReloadSec: int(s.APIKeysReload / time.Second), DestinationsReloadSec: int(s.DestinationsReload / time.Second),
		TLS:           tlsSection{CertFile: s.TLS.CertFile, KeyFile: s.TLS.KeyFile, MinVersion: tlsVersion(s.TLS.MinVersion)},
		MaxHeaderSize: Size(s.MaxHeaderBytes), MaxEvents: s.MaxEvents,
		MaxConnections: s.MaxConnections, MaxConnectionsPerIP: s.MaxConnectionsPerIP,
		ReadTimeout: s.ReadTimeout, IdleTimeout: s.IdleTimeout, MinBodyRate: Size(s.MinBodyRate),
		RateLimit:      rateLimit(s.RateLimit),
		EnforceOrigins: s.EnforceOrigins, AdminAccess: s.AdminAccess, MetricsAccess: s.MetricsAccess, Redact: s.Redact,
	}
	for _, p := range s.TrustedProxies {
		raw.TrustedProxies = append(raw.TrustedProxies, proxy(p))
	}
	return raw
}

func (s server) config() Server {
	c := Server{
		Name: s.Name, Host: s.Host, Port: s.Port, AdminToken: s.AdminToken,
		LogLevel: slog.Level(s.Log.Level), LogFormat: s.Log.Format,
		MaxEventBytes: int(s.MaxEventSize), MaxBodyBytes: int(s.MaxBodySize), MaxBulkBytes: int64(s.MaxBulkSize),
		DataDir: s.DataDir, MaxLogBytes: int64(s.MaxLogBytes), MinFreeBytes: int64(s.MinFreeBytes),
		Grace:        s.Grace,
		DedupeWindow: s.Dedupe.Window, DedupeMaxIDs: s.Dedupe.MaxIDs,

		OutcomesMaxBytes: int64(s.Outcomes.MaxBytes), OutcomesMaxAge: s.Outcomes.MaxAge,
		DeadLettersMaxBytes: int64(s.DeadLetters.MaxBytes), DeadLettersMaxAge: s.DeadLetters.MaxAge,
		IdentitiesMaxAge: s.Identities.MaxAge, IdentitiesMaxEntries: s.Identities.MaxEntries,
		KVMaxEntries: s.KV.MaxEntries, KVMaxBytes: int64(s.KV.MaxBytes),
		EventsCacheCapacity: s.EventsCache.Capacity, EventsCacheInterval: s.EventsCache.Interval,

		StaticFilesDir: s.StaticFilesDir, HTTPContext: s.EventEnrichment.HTTPContext, AnonymousHash: s.EventEnrichment.AnonymousHash,

		APIKeysReload: time.Duration(s.APIKeysReloadSec) * time.Second, DestinationsReload: time.Duration(s.DestinationsReloadSec) * time.Second,
		TLS:            TLS{CertFile: s.TLS.CertFile, KeyFile: s.TLS.KeyFile, MinVersion: uint16(s.TLS.MinVersion)},
		MaxHeaderBytes: int(s.MaxHeaderSize), MaxEvents: s.MaxEvents,
		MaxConnections: s.MaxConnections, MaxConnectionsPerIP: s.MaxConnectionsPerIP,
		ReadTimeout: s.ReadTimeout, IdleTimeout: s.IdleTimeout, MinBodyRate: int(s.MinBodyRate),
		RateLimit: s.RateLimit.config(), EnforceOrigins: s.EnforceOrigins, AdminAccess: s.AdminAccess, MetricsAccess: s.MetricsAccess,

		BotKeywords: s.UA.BotKeywords, EnrichUserAgents: s.EventEnrichment.UserAgent, EnrichLocations: s.EventEnrichment.Location,
	}
	if len(s.Redact) > 0 {
		c.Redact = s.Redact
	}
	for _, p := range s.TrustedProxies {
		c.TrustedProxies = append(c.TrustedProxies, netip.Prefix(p))
	}
	return c
}

// maxRequestSize bounds max_body_size: a body is held in memory whole.
const maxRequestSize = 1 << 30

// maxEventsCache bounds events_cache.capacity: the cache is in memory.
const maxEventsCache = 10_000

// maxReloadSec bounds how rarely an address is looked at: a day, beyond which somebody meant other units.
const maxReloadSec = 86_400

// server checks the ranges of raw and takes it over.
func (l *loader) server(raw server) {
	check := func(ok bool, key, format string, args ...any) {
		if !ok {
			l.fail(l.root, "server."+key, format, args...)
		}
	}
	check(raw.Name != "", "name", "must not be empty")
	check(!strings.ContainsAny(raw.Host, "/ ") && !hasPort(raw.Host), "host", "must be a host name or an IP address, without a port")
	check(raw.Port >= 0 && raw.Port <= 65535, "port", "must be from 0 (any free port) to 65535")
	check(raw.Log.Format == "auto" || raw.Log.Format == "text" || raw.Log.Format == "json", "log.format", "must be auto, text or json")
	check(raw.MaxBodySize > 0 && raw.MaxBodySize <= maxRequestSize, "max_body_size", "must be from 1 byte to 1GiB")
	check(raw.MaxBulkSize >= raw.MaxBodySize, "max_bulk_size", "must not be less than server.max_body_size, which is %d", raw.MaxBodySize)
	check(raw.MaxEventSize > 0, "max_event_size", "must be more than 0")
	check(raw.MaxEventSize <= raw.MaxBodySize, "max_event_size", "must not be more than server.max_body_size, which is %d", raw.MaxBodySize)
	check(raw.DataDir != "", "data_dir", "must not be empty")
	check(raw.MaxLogBytes > 0, "max_log_bytes", "must be more than 0")
	check(raw.MinFreeBytes > 0, "min_free_bytes", "must be more than 0")
	check(raw.Grace >= 0, "grace", "must not be negative")
	check(raw.Dedupe.Window > 0, "dedupe.window", "must be more than 0")
	check(raw.Dedupe.MaxIDs > 0, "dedupe.max_ids", "must be more than 0")
	check(raw.Outcomes.MaxAge >= 0, "outcomes.max_age", "must not be negative; 0s is no limit")
	check(raw.DeadLetters.MaxAge >= 0, "dead_letters.max_age", "must not be negative; 0s keeps them for ever")
	check(raw.Identities.MaxAge >= 0, "identities.max_age", "must not be negative; 0s is no limit")
	check(raw.Identities.MaxEntries > 0, "identities.max_entries", "must be more than 0")
	check(raw.KV.MaxEntries > 0, "kv.max_entries", "must be more than 0")
	check(raw.KV.MaxBytes > 0, "kv.max_bytes", "must be more than 0")
	check(raw.EventsCache.Capacity >= 0 && raw.EventsCache.Capacity <= maxEventsCache, "events_cache.capacity", "must be from 0 (no cache) to %d", maxEventsCache)
	check(raw.EventsCache.Interval >= time.Second, "events_cache.interval", "must be at least 1s")
	for key, seconds := range map[string]int{"api_keys_reload_sec": raw.APIKeysReloadSec, "destinations_reload_sec": raw.DestinationsReloadSec} {
		check(seconds >= 0 && seconds <= maxReloadSec, key, "must be from 0 (only when asked to) to %d seconds", maxReloadSec)
	}
	l.edge(raw, check)
	for _, k := range raw.UA.BotKeywords {
		check(strings.TrimSpace(k) != "", "ua.bot_keywords", "must not hold an empty word: it would make every user agent a bot's")
	}
	if raw.StaticFilesDir != "" {
		info, err := os.Stat(raw.StaticFilesDir)
		check(err == nil && info.IsDir(), "static_files_dir", "%q is no folder that is there; name the one with the SDK's lib.js, or remove the key", raw.StaticFilesDir)
	}
	l.cfg.Server = raw.config()
	l.cfg.Server.Encryption = l.encryption(raw.Encryption)
	if l.cfg.Server.TLS.Enabled() {
		l.cfg.Server.TLS.Pos = l.root.KeyPos("server.tls")
	}
}

// hasPort reports whether host is something with a port, and not an IPv6 address.
func hasPort(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return false
	}
	return strings.ContainsAny(host, ":[]")
}
