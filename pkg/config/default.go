package config

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"time"
)

// Default is what an empty file means, except that it has no API keys, which a file must have. Each call returns a value of its own.
func Default() Config {
	return Config{Server: Server{
		Name:          "unnamed-server",
		Port:          8001,
		LogLevel:      slog.LevelInfo,
		LogFormat:     "auto",
		MaxEventBytes: 51200, // Jitsu's limit
		MaxBodyBytes:  10 << 20,
		MaxBulkBytes:  64 << 30,
		DataDir:       "./data",
		MaxLogBytes:   1 << 30,
		MinFreeBytes:  512 << 20,
		TrustedProxies: []netip.Prefix{
			netip.MustParsePrefix("127.0.0.0/8"),
			netip.MustParsePrefix("::1/128"),
			netip.MustParsePrefix("10.0.0.0/8"),
			netip.MustParsePrefix("172.16.0.0/12"),
			netip.MustParsePrefix("192.168.0.0/16"),
			netip.MustParsePrefix("fc00::/7"),
		},
		Grace:        15 * time.Second,
		DedupeWindow: 24 * time.Hour,
		DedupeMaxIDs: 2_000_000,

		TLS:                 TLS{MinVersion: tls.VersionTLS12},
		MaxHeaderBytes:      16 << 10,
		MaxEvents:           50_000, // what Jitsu's documentation suggests for an uploaded file
		MaxConnections:      16384,
		MaxConnectionsPerIP: 4096,
		ReadTimeout:         60 * time.Second, // Jitsu's
		IdleTimeout:         65 * time.Second, // Jitsu's
		MinBodyRate:         1 << 10,
		AdminAccess:         AccessLocal,
		MetricsAccess:       AccessAdmin,

		OutcomesMaxBytes:     256 << 20,
		OutcomesMaxAge:       72 * time.Hour,
		DeadLettersMaxBytes:  1 << 30,
		DeadLettersMaxAge:    90 * 24 * time.Hour,
		IdentitiesMaxAge:     365 * 24 * time.Hour,
		IdentitiesMaxEntries: 10_000_000,
		KVMaxEntries:         100_000,
		KVMaxBytes:           64 << 20,
		EventsCacheCapacity:  100, // Jitsu's
		EventsCacheInterval:  time.Minute,

		AnonymousHash: true, // as Jitsu has it

		// Jitsu looks each second. Ten are soon enough for a key, a tenth of the calls for who serves it, and who is in a hurry can ask for a reload.
		APIKeysReload:      10 * time.Second,
		DestinationsReload: 10 * time.Second,
		BotKeywords:        []string{},
		EnrichUserAgents:   true,
		EnrichLocations:    true,
	}}
}

// accountLane is lanes.max_bytes where nothing is said of it and each account has lanes of its own: one that floods must not fill the disk.
const accountLane = 256 << 20

// DefaultDestination is a destination of which the file says nothing but its name.
func DefaultDestination(name string) Destination {
	return Destination{
		Name:  name,
		Type:  name,
		Lanes: LaneLimits{MaxBytes: 4 << 30, OnFull: Refuse},
		Retry: Retry{MaxAge: 24 * time.Hour, MaxDelay: 5 * time.Minute},

		UnknownAccountTTL: 72 * time.Hour,
		UnknownAccounts:   10_000,
	}
}
