package docs

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"gopkg.in/yaml.v3"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot"
	"eventrouter/pkg/destinations/webhook"
	"eventrouter/pkg/filters"
	"eventrouter/pkg/seal"
)

const (
	sectionDestination = "`destinations.NAME`"
	sectionHubSpot     = "`destinations.NAME.hubspot`"
)

// documented is what configuration.md says of one key.
type documented struct{ kind, def, meaning string }

// documentedKeys reads the table under a heading.
func documentedKeys(t *testing.T, section string) map[string]documented {
	t.Helper()
	return keysUnder(t, load(t, "configuration.md"), section)
}

// keysUnder reads the table of keys under a heading of any page.
func keysUnder(t *testing.T, p *page, section string) map[string]documented {
	t.Helper()
	keys := map[string]documented{}
	for _, row := range p.tableUnder(t, section).rows {
		names := code(row[0])
		if len(names) != 1 || len(row) != 4 {
			t.Fatalf("%s: row %q under %s", p.path, row, section)
		}
		if _, twice := keys[names[0]]; twice {
			t.Errorf("%s: %s stands twice under %s", p.path, names[0], section)
		}
		def := row[2]
		if spans := code(row[2]); len(spans) == 1 {
			def = spans[0]
		} else if len(spans) > 1 {
			def = "[" + strings.Join(quoteAll(spans), ", ") + "]"
		}
		keys[names[0]] = documented{kind: row[1], def: def, meaning: row[3]}
	}
	return keys
}

func quoteAll(texts []string) []string {
	var quoted []string
	for _, s := range texts {
		quoted = append(quoted, `"`+s+`"`)
	}
	return quoted
}

// TestConfigurationIsWhole: every key that the decoder knows has a row, and no row is about another. configs/router.yaml stands for the
// decoder of the router's own keys: a test of pkg/config holds it to be whole.
func TestConfigurationIsWhole(t *testing.T) {
	data, err := os.ReadFile("../configs/router.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Server       map[string]any
		Geo          map[string]any
		APIKeys      []map[string]any `yaml:"api_keys"`
		Configurator map[string]any
		Destinations map[string]map[string]any
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	destination := file.Destinations["crm"]
	delete(destination, "hubspot")
	f := func(section string, want []string) {
		t.Helper()
		var got []string
		for key, d := range documentedKeys(t, section) {
			got = append(got, key)
			if d.meaning == "" || d.kind == "" != (d.def == "") {
				t.Errorf("configuration.md: %s of %s is not explained", key, section)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("configuration.md, %s (-decoder +page):\n%s", section, diff)
		}
	}
	f("`server`", keysOf(file.Server, ""))
	f("`geo`", keysOf(file.Geo, ""))
	f("`api_keys`", keysOf(file.APIKeys[0], ""))
	f("`configurator`", keysOf(file.Configurator, ""))
	f(sectionDestination, append(keysOf(destination, ""), "config"))
	f(sectionHubSpot, config.Keys(hubspot.Settings{}))
}

// keysOf lists keys by dots.
func keysOf(m map[string]any, path string) (keys []string) {
	for key, v := range m {
		keys = append(keys, path+key)
		if below, ok := v.(map[string]any); ok {
			keys = append(keys, keysOf(below, path+key+".")...)
		}
	}
	return keys
}

// asYAML writes the documented defaults as a file has them; keys without one are left out.
func asYAML(t *testing.T, keys map[string]documented) map[string]any {
	t.Helper()
	root := map[string]any{}
	for key, d := range keys {
		if d.def == "none" || d.def == "required" || d.def == "" {
			continue
		}
		var value any
		if err := yaml.Unmarshal([]byte(d.def), &value); err != nil {
			t.Fatalf("default %q of %s: %v", d.def, key, err)
		}
		at, names := root, strings.Split(key, ".")
		for _, name := range names[:len(names)-1] {
			if at[name] == nil {
				at[name] = map[string]any{}
			}
			at = at[name].(map[string]any)
		}
		at[names[len(names)-1]] = value
	}
	return root
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	data, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestDefaults: a file that says what the page gives as defaults means the same as one that says nothing.
func TestDefaults(t *testing.T) {
	const keys = "api_keys: js.secret\n"
	prefixes := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	parse := func(data []byte) *config.Config {
		t.Helper()
		cfg, err := config.Parse("defaults.yaml", append([]byte(keys), data...), nil)
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}

	server := parse(encode(t, map[string]any{"server": asYAML(t, documentedKeys(t, "`server`"))})).Server
	if diff := cmp.Diff(config.Default().Server, server, prefixes); diff != "" {
		t.Errorf("server (-default +page):\n%s", diff)
	}

	section := asYAML(t, documentedKeys(t, sectionDestination))
	section["hubspot"] = map[string]any{}
	d := parse(encode(t, map[string]any{"destinations": map[string]any{"hubspot": section}})).Destinations[0]
	want := config.DefaultDestination("hubspot")
	if d.Lanes != want.Lanes || d.Retry != want.Retry || d.Staged != want.Staged || d.Filter != want.Filter || d.OnlyTokens != nil {
		t.Errorf("destination: got %+v, want %+v", d, want)
	}

	s, err := config.NewSettings("defaults.yaml", "hubspot", encode(t, asYAML(t, documentedKeys(t, sectionHubSpot))))
	if err != nil {
		t.Fatal(err)
	}
	var settings hubspot.Settings
	if err := s.Decode(&settings); err != nil {
		t.Fatal(err)
	}
	if len(settings.Events.Define) == 0 {
		settings.Events.Define = nil
	}
	if diff := cmp.Diff(hubspot.DefaultSettings(), settings); diff != "" {
		t.Errorf("hubspot (-default +page):\n%s", diff)
	}
}

// TestLeftOutKeys: the page lists the keys of Jitsu's that pkg/config knows of and does not use, no more and no less.
func TestLeftOutKeys(t *testing.T) {
	want := map[string][]string{}
	file, err := parser.ParseFile(token.NewFileSet(), "../pkg/config/leftout.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	places := map[string]string{
		"fileLeftOut": "top level", "serverLeftOut": "`server`", "serverLogLeftOut": "`server.log`", "apiKeyLeftOut": "`api_keys`",
		"destinationLeftOut": sectionDestination, "dataLayoutLeftOut": "`data_layout`",
	}
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || places[v.Names[0].Name] == "" {
			return true
		}
		for _, e := range v.Values[0].(*ast.CompositeLit).Elts {
			key := e.(*ast.KeyValueExpr).Key.(*ast.BasicLit).Value
			want[places[v.Names[0].Name]] = append(want[places[v.Names[0].Name]], strings.Trim(key, `"`))
		}
		return false
	})
	got := map[string][]string{}
	for _, row := range load(t, "configuration.md").tableUnder(t, "Jitsu's other keys").rows {
		got[row[0]] = code(row[1])
	}
	for _, lists := range []map[string][]string{want, got} {
		for _, list := range lists {
			slices.Sort(list)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-pkg/config +configuration.md):\n%s", diff)
	}
}

// completed fills in what a fragment leaves to the reader: an API key, and account and token of a HubSpot destination.
func completed(t *testing.T, b *block) []byte {
	t.Helper()
	var file map[string]any
	if err := yaml.Unmarshal([]byte(b.text), &file); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	if file["api_keys"] == nil {
		file["api_keys"] = []any{map[string]any{"id": "web", "client_secret": "js.x", "server_secret": "s2s.x"}}
	}
	all, _ := file["destinations"].(map[string]any)
	for _, d := range all {
		d := d.(map[string]any)
		if kind, ok := d["type"].(string); d["config"] != nil || d["connection"] != nil || ok && kind != "hubspot" {
			continue
		}
		settings, _ := d["hubspot"].(map[string]any)
		if settings == nil {
			settings = map[string]any{}
			d["hubspot"] = settings
		}
		if settings["access_token"] == nil {
			settings["access_token"], settings["hub_id"] = "pat-na1-x", "1"
		}
	}
	apps, _ := file["apps"].(map[string]any)
	for name, a := range apps {
		a := a.(map[string]any)
		if a["client_id"] == nil {
			a["client_id"], a["client_secret"], a["scopes"] = "client-1", "x", []any{"oauth"}
			a["redirect_url"] = "https://events.example.com/connect/" + name + "/callback"
		}
	}
	return encode(t, file)
}

// noAccounts are connections of a configuration that is only checked.
type noAccounts struct{ destinations.Connections }

// check does what router check does, without variables.
func check(name string, data []byte) error {
	return checkWith(config.Options{Env: func(string) (string, bool) { return "", false }}, name, data)
}

// anyValue stands for variables whose value does not matter.
func anyValue(names []string) (string, bool) {
	if strings.HasSuffix(names[0], "_URL") {
		return "https://service.example/" + names[0], true
	}
	return "123456789012345678", true
}

// destinationTypes are those of cmd/router.
var destinationTypes = map[string]destinations.Factory{
	"hubspot": hubspot.New,
	"webhook": func(s config.Settings, env destinations.Env) (destinations.Destination, error) {
		return webhook.New(s, env)
	},
}

func checkWith(o config.Options, name string, data []byte) error {
	cfg, err := config.ParseWith(name, data, config.Options{
		Env: o.Env, Unset: o.Unset,
		Read: func(a config.Address, _ config.Server) ([]byte, error) {
			return map[string][]byte{
				config.PartAPIKeys:      []byte(`{"tokens": ["js.elsewhere"]}`),
				config.PartDestinations: []byte(`{"destinations": {"crm": {"type": "hubspot", "hubspot": {"access_token": "pat", "hub_id": 1}}}}`),
			}[a.Part], nil
		},
	})
	var problems config.Problems
	if err != nil && (cfg == nil || !errors.As(err, &problems)) {
		return err
	}
	for _, d := range cfg.Destinations {
		env := destinations.Env{Name: d.Name, Log: slog.New(slog.DiscardHandler), Metrics: destinations.NewMetrics(prometheus.NewRegistry())}
		if d.Connection != "" {
			env.App, env.Connections = d.Connection, noAccounts{}
		}
		_, err := destinationTypes[d.Type](d.Settings, env)
		var more config.Problems
		if err != nil && !errors.As(err, &more) {
			return err
		}
		problems = append(problems, more...)
		if _, err := filters.CompileMatch(d.Match); errors.As(err, &more) {
			problems = append(problems, more...)
		}
		if _, err := filters.CompileTransform(d.Transform, filters.Options{}); d.Transform != "" && err != nil {
			problems = append(problems, config.Problem{Pos: d.TransformPos, Path: "destinations." + d.Name, Text: err.Error()})
		}
		if d.Filter != "" {
			if _, err := filters.Compile(d.Filter, filters.Options{}); err != nil {
				problems = append(problems, config.Problem{Pos: d.FilterPos, Path: "destinations." + d.Name, Text: err.Error()})
			}
		}
	}
	return problems.Sorted().Err()
}

// TestYAML: every configuration on every page loads, and so do the files in configs.
func TestYAML(t *testing.T) {
	t.Parallel()
	n := 0
	for _, p := range loadAll(t) {
		for i, b := range p.blocks {
			switch {
			case b.lang != "yaml", b.is("yaml", "jitsu"), b.is("yaml", "ci"):
			case b.is("yaml", "bad"):
				want := p.blocks[i+1]
				if err := check("router.yaml", []byte(b.text)); err == nil || strings.TrimSpace(err.Error()) != strings.TrimSpace(want.text) {
					t.Errorf("%s: got\n%v\nwant\n%s", &b, err, want.text)
				}
			default:
				n++
				o := config.Options{Env: func(string) (string, bool) { return "", false }, Unset: anyValue}
				if err := checkWith(o, b.String(), completed(t, &b)); err != nil {
					t.Errorf("%s: %v", &b, err)
				}
			}
		}
	}
	if n < 5 {
		t.Errorf("only %d configurations on all pages", n)
	}
	files, err := filepath.Glob("../configs/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	env := map[string]string{
		"CLIENT_SECRET": "js.x", "SERVER_SECRET": "s2s.x", "HUBSPOT_TOKEN": "pat-na1-x", "HUBSPOT_HUB_ID": "1",
		"EVENTS_URL": "https://example.com/", "EVENTS_TOKEN": "x", "EVENTS_SECRET": "0123456789abcdef", "CHAT_URL": "https://example.com/",
		"HUBSPOT_CLIENT_ID": "client-1", "HUBSPOT_CLIENT_SECRET": "x", "ROUTER_ENCRYPTION_KEY": seal.NewKey(),
	}
	o := config.Options{Env: func(name string) (string, bool) { value, ok := env[name]; return value, ok }}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkWith(o, file, data); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}
