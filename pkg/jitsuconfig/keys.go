package jitsuconfig

import (
	"cmp"
	"slices"

	"eventrouter/pkg/config"
)

// Key is what becomes of one key of Jitsu's.
type Key struct {
	Section string // where it stands: "top level", server, server.log, geo, api_keys, destinations.NAME, data_layout, hubspot or webhook
	Name    string
	Kept    bool   // the result has it, or what it says
	Text    string // what becomes of it, or why nothing does and what to do
}

// Sections in the order of Keys.
var sections = []string{"top level", "server", "server.log", "geo", "api_keys", "destinations.NAME", "data_layout", "hubspot", "webhook"}

// How config.JitsuKeys names them.
var sectionNames = map[string]string{"": "top level", "server": "server", "server.log": "server.log", "api_keys": "api_keys", "destinations": "destinations.NAME", "data_layout": "data_layout"}

const asItIs = "as it is"

// keptKeys are carried over, as they are or in another form.
var keptKeys = []Key{
	{"top level", "server", true, "below"},
	{"top level", "geo", true, "below"},
	{"top level", "api_keys", true, "in all its forms; at a URL or in another file it stays there"},
	{"top level", "destinations", true, "below; what stands at a URL or in another file is not converted: convert what is served there"},
	{"top level", "configurator", true, "as it is, unless the file has both API keys and destinations; the destinations that it hands out are not converted"},

	{"server", "name", true, asItIs},
	{"server", "port", true, asItIs},
	{"server", "admin_token", true, asItIs},
	{"server", "log", true, "below"},
	{"server", "max_event_size", true, asItIs},
	{"server", "static_files_dir", true, "as it is; the folder must be there"},
	{"server", "event_enrichment", true, asItIs},
	{"server", "ua", true, asItIs},
	{"server", "api_keys_reload_sec", true, asItIs},
	{"server", "destinations_reload_sec", true, asItIs},
	{"server", "auth_reload_sec", true, "an old name: becomes `api_keys_reload_sec`"},
	{"server", "metrics", true, "with `prometheus` enabled and `auth: false` it becomes `metrics_access: public`; else `/metrics` and `/prometheus` ask for `admin_token`, and nothing is sent to anybody"},
	{"server", "api_keys", true, "an old place: moves to the top level"},
	{"server", "auth", true, "an old name: its keys move to `api_keys` at the top level"},
	{"server", "s2s_auth", true, "an old name: each secret becomes a key with a `server_secret`"},
	{"server", "destinations", true, "an old place: moves to the top level"},
	{"server.log", "level", true, "`debug`, `info`, `warn` and `error`; others are left out"},

	{"geo", "maxmind_path", true, "a file or a folder; a URL is left out: the router downloads no databases, MaxMind's `geoipupdate` does"},

	{"api_keys", "id", true, asItIs},
	{"api_keys", "client_secret", true, asItIs},
	{"api_keys", "server_secret", true, asItIs},
	{"api_keys", "origins", true, asItIs},

	{"destinations.NAME", "type", true, "`hubspot` and `webhook`; of another type the whole destination is left out"},
	{"destinations.NAME", "mode", true, "becomes `stream`: events are delivered one by one, and merged by the router where calls are few"},
	{"destinations.NAME", "only_tokens", true, "without those that are no API key; if none of them is one, the destination is `staged`. Without it a destination got no events in Jitsu; here it gets those of all keys"},
	{"destinations.NAME", "staged", true, asItIs},
	{"destinations.NAME", "enrichment", true, "rules `ip_lookup` and `user_agent_parse`, their paths in lower case and without spaces, as Jitsu read them"},
	{"destinations.NAME", "data_layout", true, "below"},
	{"destinations.NAME", "config", true, "the section of the type, below; goes before one that is named after the type"},
	{"destinations.NAME", "hubspot", true, "below"},
	{"destinations.NAME", "webhook", true, "below"},

	{"data_layout", "table_name_template", true, "as it is, if the router can compile it; else the destination is `staged`"},
	{"data_layout", "transform", true, "as it is, if the router can compile it; else it is switched off and the destination is `staged`. There is no `require`, `fetch` or `process.env`"},
	{"data_layout", "transform_enabled", true, asItIs},
	{"data_layout", "mappings", true, "becomes `hubspot.properties.map` where it only names contact properties, else a `transform`. What is set inside an object leaves the object's other members alone"},
	{"data_layout", "mapping", true, "the same"},
	{"data_layout", "mapping_type", true, "the same: `strict` keeps only what is mapped"},

	{"hubspot", "access_token", true, asItIs},
	{"hubspot", "hub_id", true, asItIs},
	{"hubspot", "api_key", false, "HubSpot took its API keys out of use in 2022; make a private app, and give its token as access_token"},
	{"webhook", "url", true, "as it is: a URL, in which `{{…}}` may stand, but not one that JavaScript makes; an address inside your own network needs `allow_private`"},
	{"webhook", "method", true, "as it is; without it `POST`"},
	{"webhook", "headers", true, asItIs},
	{"webhook", "body", true, "as it is; without it the event as JSON, where Jitsu sent nothing"},
}

// Keys is the table of Jitsu's keys and of what becomes of each, by section.
func Keys() []Key {
	all := slices.Clone(keptKeys)
	for _, k := range config.JitsuKeys() {
		section := sectionNames[k.Section]
		if !slices.ContainsFunc(keptKeys, func(kept Key) bool { return kept.Section == section && kept.Name == k.Name }) {
			all = append(all, Key{section, k.Name, false, k.Advice})
		}
	}
	slices.SortStableFunc(all, func(a, b Key) int {
		return cmp.Compare(slices.Index(sections, a.Section), slices.Index(sections, b.Section))
	})
	return all
}

// Type is what becomes of the destinations of one type of Jitsu's.
type Type struct {
	Name string
	Kept bool
	Text string
}

const (
	warehouse = "the router loads no warehouses and no files; keep another loader for it"
	noSuch    = "the router has no such destination; a webhook with a transform can post to its HTTP API"
)

// Types is the table of Jitsu's types of destinations.
func Types() []Type {
	return []Type{
		{"hubspot", true, "carried over"},
		{"webhook", true, "carried over"},
		{"postgres", false, warehouse},
		{"mysql", false, warehouse},
		{"redshift", false, warehouse},
		{"bigquery", false, warehouse},
		{"snowflake", false, warehouse},
		{"clickhouse", false, warehouse},
		{"s3", false, warehouse},
		{"gcs", false, warehouse},
		{"google_analytics", false, noSuch},
		{"facebook", false, noSuch},
		{"amplitude", false, noSuch},
		{"segment", false, noSuch},
		{"dbtcloud", false, noSuch},
		{"npm", false, "the router runs no npm plug-ins; a webhook with a transform can post to the same HTTP API"},
	}
}

// table finds keys by section and name.
type table map[string]map[string]Key

func newTable() table {
	t := table{}
	for _, k := range Keys() {
		if t[k.Section] == nil {
			t[k.Section] = map[string]Key{}
		}
		t[k.Section][k.Name] = k
	}
	return t
}
