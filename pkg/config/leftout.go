package config

// leftOut is a key of Jitsu's that this router does not have. What stands below it is not checked.
type leftOut struct {
	advice string // what to do instead
	// harm, in a section for which matters reports true, says why to ignore the key would be wrong: it is an error then, not a warning.
	harm    string
	matters func(section *node) bool
}

// moved is a key that is understood in another place only.
func moved(advice string) leftOut {
	return leftOut{harm: advice, matters: func(*node) bool { return true }}
}

const otherGeo = "name a MaxMind database, or a folder of them, in geo.maxmind_path"

// Sources: Jitsu's configuration reference and the defaults of its server, 1.44.
var fileLeftOut = map[string]leftOut{
	"log":                {advice: "events are kept in server.data_dir, and what cannot be delivered with the dead letters there"},
	"batch_uploader":     {advice: "there are no batches; destinations are streamed to"},
	"streaming":          {advice: "the remote's quota sets how many calls are made at a time"},
	"geo_data_resolvers": {advice: otherGeo},
	"maxmind":            {advice: otherGeo},
	"events":             {advice: "the queue is in server.data_dir and needs no Redis"},
	"meta":               {advice: "the store is in server.data_dir and needs no Redis"},
	"coordination":       {advice: "one router runs alone and needs no coordination"},
	"synchronization_service": {
		advice: "one router runs alone and needs no coordination",
	},
	"users_recognition": {advice: "e-mail addresses are remembered for user ids and anonymous ids without it; events of the past are not sent again"},
	"transform":         {advice: "what scripts print is logged at the level debug, and what they keep is in server.data_dir"},
	"node":              {advice: "filters in JavaScript run without Node.js"},
	"notifications":     {advice: "watch the metrics instead, such as router_dead_letters_total"},
	"sources":           {advice: "this router takes events over HTTP only; sync sources by another tool"},
	"sync-tasks":        {advice: "this router takes events over HTTP only; sync sources by another tool"},
	"singer-bridge":     {advice: "this router takes events over HTTP only; sync sources by another tool"},
	"airbyte-bridge":    {advice: "this router takes events over HTTP only; sync sources by another tool"},
	"sql_debug_log":     {advice: "there are no SQL destinations"},
	"compatibility":     {advice: "how events of other SDKs are read is fixed"},
}

func (file) leftOut() map[string]leftOut { return fileLeftOut }

var serverLeftOut = map[string]leftOut{
	"public_url":               {advice: "nothing here needs the router's own address"},
	"configurator_urn":         {advice: "there is no configurator"},
	"auth_reload_sec":          {advice: "it is an old name; write api_keys_reload_sec"},
	"sources_reload_sec":       {advice: "there are no sources"},
	"geo_resolvers_reload_sec": {advice: "a changed database is taken in within a minute"},
	"strict_auth_tokens":       {advice: "an unknown API key is always refused"},
	"max_columns":              {advice: "there are no SQL destinations"},
	"disable_skip_events_warn": {advice: "skipped events are counted in the metrics and never logged one by one"},
	"disable_version_reminder": {advice: "the router never asks for newer versions"},
	"disable_welcome_page":     {advice: "there is no welcome page"},
	"log_http_errors":          {advice: "refused requests are counted in the metrics by reason"},
	"cache":                    {advice: "the size of the events cache is server.events_cache.capacity"},
	"metrics":                  {advice: "/metrics and /prometheus are always there and ask for admin_token; nothing is sent to anybody"},
	"telemetry":                {advice: "nothing is sent to anybody"},
	"fields_configuration":     {advice: "the fields of an event stand where the SDKs put them by default"},
	"sync_tasks":               {advice: "there are no sources"},
	"plugins_cache":            {advice: "there are no npm plug-ins"},
	"volumes":                  {advice: "there are no sources"},
	"config":                   {advice: "everything is kept in server.data_dir"},
	"api_keys":                 moved("API keys stand at the top level of the file; move them to api_keys"),
	"auth":                     moved("is an old name; move the API keys to api_keys at the top level of the file"),
	"s2s_auth":                 moved("is an old name; move each secret to api_keys at the top level of the file, as `- server_secret: …`"),
	"destinations":             moved("destinations stand at the top level of the file; move them there"),
}

func (server) leftOut() map[string]leftOut { return serverLeftOut }

var serverLogLeftOut = map[string]leftOut{
	"path":         {advice: "the router logs to standard error; let the service manager keep it"},
	"rotation_min": {advice: "the router logs to standard error; let the service manager rotate it"},
	"max_backups":  {advice: "the router logs to standard error; let the service manager keep it"},
}

func (serverLog) leftOut() map[string]leftOut { return serverLogLeftOut }

var apiKeyLeftOut = map[string]leftOut{
	"batch_period_min": {advice: "there are no batches; destinations are streamed to"},
}

func (apiKey) leftOut() map[string]leftOut { return apiKeyLeftOut }

// otherType is said of the sections of Jitsu's other types of destination: the type itself is refused elsewhere.
const otherType = "these are settings of another type than this destination's"

var destinationLeftOut = map[string]leftOut{
	"streaming_threads_count":  {advice: "the remote's quota sets how many calls are made at a time"},
	"users_recognition":        {advice: "e-mail addresses are remembered for user ids and anonymous ids without it; events of the past are not sent again"},
	"caching":                  {advice: "the events cache is for all destinations; server.events_cache.capacity: 0 switches it off"},
	"log":                      {advice: "there are no SQL destinations"},
	"break_on_error":           {advice: "an event that cannot be delivered becomes a dead letter and holds up no other"},
	"post_handle_destinations": {advice: "nothing runs after a delivery"},
	"geo_data_resolver_id":     {advice: otherGeo},
	"template_variables":       {advice: "a filter sees the event only"},
	"package":                  {advice: "there are no npm plug-ins"},
	"datasource":               {advice: otherType},
	"s3":                       {advice: otherType},
	"google":                   {advice: otherType},
	"google_analytics":         {advice: otherType},
	"clickhouse":               {advice: otherType},
	"snowflake":                {advice: otherType},
	"facebook":                 {advice: otherType},
	"amplitude":                {advice: otherType},
	"dbtcloud":                 {advice: otherType},
}

func (destination) leftOut() map[string]leftOut { return destinationLeftOut }

// Ignoring what changes the data would deliver other data than the file says.
const (
	noMappings = "there are no mappings here"
	harmful    = ", and without them the destination would get other data than this file says; `router import-config` makes a transform of them"
)

var dataLayoutLeftOut = map[string]leftOut{
	"mappings":           {advice: noMappings, harm: noMappings + harmful, matters: maps},
	"mapping":            {advice: noMappings, harm: noMappings + harmful, matters: mapsOldStyle},
	"mapping_type":       {advice: noMappings},
	"max_columns":        {advice: "there are no SQL destinations"},
	"primary_key_fields": {advice: "there are no SQL destinations"},
	"unique_id_field":    {advice: "an event's id stands where the SDKs put it by default"},
}

func (dataLayout) leftOut() map[string]leftOut { return dataLayoutLeftOut }

// maps reports whether the mappings would change an event: they move fields, or drop those that they do not name.
func maps(section *node) bool {
	m, _ := section.child("mappings")
	if keep, ok := m.value.child("keep_unmapped"); ok && keep.value.kind == scalar {
		if on, err := parseBool(keep.value.text); err == nil && !on {
			return true
		}
	}
	rules, ok := m.value.child("fields")
	return ok && !rules.value.empty()
}

func mapsOldStyle(section *node) bool {
	m, _ := section.child("mapping")
	return !m.value.empty()
}
