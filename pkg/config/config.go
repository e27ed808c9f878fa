// Package config reads and checks the router's YAML file.
//
// Defaults are one value; the file is decoded over it. Every unknown key is an error at every depth, with file, line and the
// Nearest known name, and all problems are reported at once. A destination's own settings stay undecoded ([Settings]) until its
// package decodes them by the same rules.
package config

import (
	"log/slog"
	"net/netip"
	"time"
)

// Config is the whole file, checked, with defaults filled in and environment variables replaced.
type Config struct {
	// File is the path that the configuration was read from, for messages.
	File         string
	Server       Server
	Geo          Geo
	APIKeys      []APIKey
	Destinations []Destination // in the order of the file
	Apps         []App         // in the order of the file
	Elsewhere    []Address     // where API keys or destinations stand, if not in the file
	Scripts      []Script      // the transform files that it names
	// Warnings are what the reader should know but what stops nothing: Jitsu keys that are left out, keys without a destination.
	Warnings Problems
	// Variables are the values of those that are secrets by their names.
	Variables []Secret
}

// Server is the `server` section.
type Server struct {
	Name           string         // name: label of this router in logs; default "unnamed-server"
	Host           string         // host: address to listen on; default "" (all)
	Port           int            // port: default 8001
	AdminToken     Secret         // admin_token: for metrics and admin routes; empty: those answer loopback clients only
	LogLevel       slog.Level     // log.level: debug, info (default), warn, error
	LogFormat      string         // log.format: auto (default: text on a terminal, JSON otherwise), text, json
	MaxEventBytes  int            // max_event_size: one event's JSON; default 51200
	MaxBodyBytes   int            // max_body_size: one request's body, after decompression; default 10 MiB
	MaxBulkBytes   int64          // max_bulk_size: one upload to the bulk route, after decompression; default 64 GiB
	DataDir        string         // data_dir: log and store; default "./data"
	MaxLogBytes    int64          // max_log_bytes: events accepted but not yet sorted, live and bulk ones each; default 1 GiB; then 503
	MinFreeBytes   int64          // min_free_bytes: of the disk; below it ingest answers 503, for bulk events below twice as much; default 512 MiB
	TrustedProxies []netip.Prefix // trusted_proxies: whose X-Forwarded-For is believed; default loopback and private networks
	Grace          time.Duration  // grace: for open requests and calls at SIGTERM; default 15s
	DedupeWindow   time.Duration  // dedupe.window: how long event ids are remembered; default 24h
	DedupeMaxIDs   int            // dedupe.max_ids: most ids remembered, the oldest go first; default 2,000,000

	TLS                 TLS           // tls; the zero TLS: HTTP
	MaxHeaderBytes      int           // max_header_size: request line and headers; default 16 KiB
	MaxEvents           int           // max_events_per_request: default 50,000
	MaxConnections      int           // max_connections: open at a time; default 16,384
	MaxConnectionsPerIP int           // max_connections_per_ip: of one address, trusted proxies not counted; default 4,096, 0: no limit
	ReadTimeout         time.Duration // read_timeout: for the headers of a request, and for its body; default 60s
	IdleTimeout         time.Duration // idle_timeout: between two requests of a connection; default 65s
	MinBodyRate         int           // min_body_rate: bytes a second at which a body must come; default 1 KiB, 0: no limit
	RateLimit           RateLimit     // rate_limit: of API keys that have none of their own; default none
	EnforceOrigins      bool          // enforce_origins: of API keys that do not say; default false
	AdminAccess         string        // admin_access: local (default: this machine, where there is no admin token) or token
	MetricsAccess       string        // metrics_access: admin (default: as admin routes) or public
	Redact              []string      // redact: names and paths of event members that nobody is shown; default none

	OutcomesMaxBytes     int64         // outcomes.max_bytes: on disk, of what became of events; default 256 MiB, 0: none are kept
	OutcomesMaxAge       time.Duration // outcomes.max_age: how long they are kept at most; default 72h, 0: as long as there is room
	DeadLettersMaxBytes  int64         // dead_letters.max_bytes: of each destination; default 1 GiB, 0: no bound
	DeadLettersMaxAge    time.Duration // dead_letters.max_age: how long they are kept; default 2160h, 0: for ever
	IdentitiesMaxAge     time.Duration // identities.max_age: how long one is kept after it was last of use; default 8760h, 0: any time
	IdentitiesMaxEntries int           // identities.max_entries: those that were of use longest ago go first; default 10,000,000
	KVMaxEntries         int           // kv.max_entries: that $kv keeps for each destination, those written longest ago go first; default 100,000
	KVMaxBytes           int64         // kv.max_bytes: of their keys and values; default 64 MiB
	EventsCacheCapacity  int           // events_cache.capacity: events in an interval, of each API key and destination; default 100, 0: no cache
	EventsCacheInterval  time.Duration // events_cache.interval: default 60s

	Encryption Encryption // encryption; the zero Encryption: what is on disk is not encrypted

	StaticFilesDir string // static_files_dir: what /s/ serves, such as lib.js; default "" (nothing)
	HTTPContext    bool   // event_enrichment.http_context: request headers become part of events; default false
	AnonymousHash  bool   // event_enrichment.hashed_anonymous_id: default true

	APIKeysReload      time.Duration // api_keys_reload_sec: how often keys that stand elsewhere are looked at; default 10s, 0: only when asked to
	DestinationsReload time.Duration // destinations_reload_sec: the same of destinations

	BotKeywords      []string // ua.bot_keywords: what makes a user agent a bot's, beside Jitsu's; default none
	EnrichUserAgents bool     // event_enrichment.user_agent: events get parsed_ua; default true
	EnrichLocations  bool     // event_enrichment.location: events get location; default true
}

// TLS is `server.tls`.
type TLS struct {
	CertFile   string // cert_file: the certificate and those between it and the root, in PEM
	KeyFile    string // key_file: its private key, in PEM
	MinVersion uint16 // min_version: of crypto/tls; default TLS 1.2
	Pos        Pos    // where the section stands
}

// Enabled says whether the server speaks HTTPS.
func (t TLS) Enabled() bool { return t.CertFile != "" }

// RateLimit is `rate_limit`. The zero RateLimit is none.
type RateLimit struct {
	EventsPerSecond float64 // events_per_second: on average; 0: no limit
	Burst           int     // burst: events that may come at once after a pause; default: those of a second
}

// Geo is the `geo` section.
type Geo struct {
	MaxMindPath string // maxmind_path: a MaxMind database, or a folder of them; default "": events get no location
	Pos         Pos    // where that stands
}

// APIKey is one element of `api_keys`.
type APIKey struct {
	ID           string // id; default: a hash of the secrets, as Jitsu makes it
	ClientSecret Secret // client_secret: for browsers; may be empty if there is a server secret
	ServerSecret Secret // server_secret
	Origins      []string

	// OldClientSecrets and OldServerSecrets are valid too, for the time of a rotation: the further members of client_secret and server_secret.
	OldClientSecrets, OldServerSecrets []Secret
	Account                            string    // account: the customer whose events come with this key, where destinations deliver to customers' accounts; "": none
	EnforceOrigins                     bool      // enforce_origins; default: server.enforce_origins
	RateLimit                          RateLimit // rate_limit; default: server.rate_limit
}

// Destination is one element of `destinations`.
type Destination struct {
	Name       string   // its key in the map
	Type       string   // type; default: its name
	OnlyTokens []string // only_tokens, resolved to ids of API keys; nil: all keys
	Staged     bool     // staged: configured but not delivered to
	// Transform is data_layout.transform, or what data_layout.transform_file holds; "": none, or it is switched off. TransformPos is where the script begins:
	// in the configuration the line of its key, in a file of its own the first one.
	// TransformFile is the name of that file as it is written; "": the script stands in the configuration.
	Transform     string
	TransformPos  Pos
	TransformFile string
	// Match is `filter`, undecoded; it does not exist when absent.
	Match Settings
	// Filter is data_layout.table_name_template, "" when absent; FilterPos is where it stands.
	Filter    string
	FilterPos Pos
	Lanes     LaneLimits
	Retry     Retry
	// Connection is `connection`: the app whose connected accounts it delivers to, each with its own hub; "": it has one account, of its own settings.
	Connection string
	// Account is `account`: an expression that says whose an event is that a server posted, where neither a token nor the API key says it; "": none.
	Account string
	// AccountPos is where that stands.
	AccountPos Pos
	// UnknownAccountTTL is unknown_account_ttl: how long events of an account that is not connected wait for it; default 72h. Then they are dead letters.
	UnknownAccountTTL time.Duration
	// UnknownAccounts is unknown_accounts: for how many accounts that are not connected events wait at most; default 10,000. Events of others are dead letters at once.
	UnknownAccounts int
	// Enrichment are the rules of `enrichment`, undecoded but for their texts.
	Enrichment []Enrichment
	// Settings are what stands under `config:` or, in Jitsu's older spelling, under the type's own name.
	Settings Settings
}

// Enrichment is one element of `enrichment` of a destination.
type Enrichment struct {
	Name string // name: what the rule does
	From string // from: where the text stands that it starts from
	To   string // to: where its result goes
	Pos  Pos
}

// LaneLimits is `lanes` of a destination: the limits of each of its lanes.
type LaneLimits struct {
	MaxBytes int64         // max_bytes on disk; default 4 GiB
	MaxAge   time.Duration // max_age of the oldest entry; default 0: no limit
	OnFull   OnFull        // on_full; default refuse
}

// OnFull says what happens when a lane is at a limit.
type OnFull string

// What a lane at its limit does.
const (
	Refuse           OnFull = "refuse"             // ingest answers 503 to the API keys that feed the destination
	DeadLetterOldest OnFull = "dead_letter_oldest" // its oldest entries become dead letters
)

// Retry is `retry` of a destination.
type Retry struct {
	MaxAge   time.Duration // max_age: an entry that failed for so long becomes a dead letter, blocked time not counted; default 24h
	MaxDelay time.Duration // max_delay between attempts; default 5m
}

// Pos is a place in the file. The zero Pos is unknown.
type Pos struct {
	File string
	Line int // from 1
}
