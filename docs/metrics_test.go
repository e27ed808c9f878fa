package docs

import (
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"eventrouter/pkg/config"
	"eventrouter/pkg/connections"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/ingest"
	"eventrouter/pkg/log"
	"eventrouter/pkg/proxy"
	"eventrouter/pkg/router"
	"eventrouter/pkg/store"
)

// describer collects what is registered: metrics with labels show on a page only once they have values.
type describer struct{ found map[string][]string }

var desc = regexp.MustCompile(`^Desc\{fqName: "([^"]+)".*variableLabels: \{([^}]*)\}\}$`)

func (d *describer) Register(c prometheus.Collector) error {
	ch := make(chan *prometheus.Desc)
	go func() { c.Describe(ch); close(ch) }()
	for one := range ch {
		m := desc.FindStringSubmatch(one.String())
		d.found[m[1]] = strings.FieldsFunc(m[2], func(r rune) bool { return r == ',' })
	}
	return nil
}

func (d *describer) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		_ = d.Register(c) // never fails
	}
}

func (d *describer) Unregister(prometheus.Collector) bool { return false }

// registered are the metrics of all packages by name, with their labels.
func registered(t *testing.T) map[string][]string {
	t.Helper()
	d := &describer{found: map[string][]string{}}
	dir := t.TempDir()
	quiet := slog.New(slog.DiscardHandler)
	st, err := store.Open(dir, store.Options{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	lg, err := log.Open(dir+"/log", log.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer lg.Close()
	bulk, err := log.Open(dir+"/bulk", log.Options{Position: router.BulkPosition(st)})
	if err != nil {
		t.Fatal(err)
	}
	defer bulk.Close()
	if _, err := router.New(router.Options{Log: lg, BulkLog: bulk, Store: st, Registerer: d, Logger: quiet, Grace: time.Second}); err != nil {
		t.Fatal(err)
	}
	if _, err := ingest.New(ingest.Options{Server: config.Default().Server, Log: lg, Registerer: d, Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	if _, err := ingest.NewCertificate(config.TLS{}, ingest.CertificateOptions{Registerer: d}); err == nil {
		t.Fatal("a certificate of no file")
	}
	if _, err := proxy.New(proxy.Options{Registerer: d}); err != nil {
		t.Fatal(err)
	}
	if _, err := connections.New(connections.Options{Store: st, Registerer: d}); err != nil {
		t.Fatal(err)
	}
	destinations.NewMetrics(d)
	maps.Copy(d.found, ofCommand(t))
	return d.found
}

// ofCommand are the metrics that package main registers, which no test can import: names are those in its source.
func ofCommand(t *testing.T) map[string][]string {
	t.Helper()
	labels := map[string][]string{
		"router_config_reloads_total": {"result"}, "router_config_last_reload_success_timestamp_seconds": {},
		"router_config_address_age_seconds": {"part"}, "router_config_address_state": {"part", "state"},
		"router_encryption_key_in_use": {"key"},
	}
	found := map[string][]string{}
	for _, file := range []string{"reloadstatus.go", "encryption.go"} {
		source, err := os.ReadFile("../cmd/router/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"(router_\w+)"`).FindAllStringSubmatch(string(source), -1) {
			found[m[1]] = labels[m[1]]
		}
	}
	return found
}

// TestMetrics: operating.md lists every metric with its labels, and none that there is not.
func TestMetrics(t *testing.T) {
	t.Parallel()
	documented := map[string][]string{}
	for _, tb := range load(t, "operating.md").tables {
		if tb.header[0] != "name" {
			continue
		}
		for _, row := range tb.rows {
			documented[code(row[0])[0]] = code(row[2])
			if !slices.Contains([]string{"counter", "gauge", "histogram"}, row[1]) || row[3] == "" {
				t.Errorf("operating.md: %s is not explained", row[0])
			}
		}
	}
	names := registered(t)
	if diff := cmp.Diff(names, documented, cmp.Transformer("nil", func(s []string) string { return strings.Join(s, ",") })); diff != "" {
		t.Errorf("(-code +operating.md):\n%s", diff)
	}
	page := served(t).get(t, "/metrics")
	for _, m := range regexp.MustCompile(`(?m)^# TYPE ((?:router|eventnative)_\w+) (\w+)$`).FindAllStringSubmatch(page, -1) {
		if _, ok := documented[m[1]]; !ok {
			t.Errorf("operating.md lacks %s, which /metrics has", m[1])
		}
	}
	var rejected []string
	for _, m := range regexp.MustCompile(`router_requests_rejected_total\{reason="(\w+)"\}`).FindAllStringSubmatch(page, -1) {
		rejected = append(rejected, m[1])
	}
	text := load(t, "operating.md").text
	_, list, _ := strings.Cut(text, "\nReasons: ")
	list, _, _ = strings.Cut(list, "\n")
	got := code(list)
	slices.Sort(got)
	if diff := cmp.Diff(rejected, got); diff != "" {
		t.Errorf("reasons of rejected requests (-code +operating.md):\n%s", diff)
	}
}

// TestDeadLetterReasons: the page has the list that the command line has.
func TestDeadLetterReasons(t *testing.T) {
	t.Parallel()
	help, _ := runRouter(t, "deadletters", "list", "--help")
	m := regexp.MustCompile(`reason \(([^)]+)\)`).FindStringSubmatch(strings.Join(strings.Fields(help), " "))
	if m == nil {
		t.Fatalf("no list of reasons in\n%s", help)
	}
	want := strings.Split(m[1], ", ")
	var got []string
	for _, table := range load(t, "operating.md").tables {
		if table.heading != "Dead letters" || table.header[0] != "reason" {
			continue
		}
		for _, row := range table.rows {
			got = append(got, code(row[0])[0])
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-command +operating.md):\n%s", diff)
	}
}

// TestRules: the alert rules are about metrics and labels that there are, and Prometheus's own checker takes them.
func TestRules(t *testing.T) {
	t.Parallel()
	const file = "prometheus-rules.yaml"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	names := registered(t)
	known := slices.Collect(maps.Keys(names))
	for _, m := range regexp.MustCompile(`router_[a-z_]+(\{[^}]*\})?`).FindAllStringSubmatch(string(data), -1) {
		name, _, _ := strings.Cut(strings.TrimSuffix(m[0], "_bucket"), "{")
		if !slices.Contains(known, name) {
			t.Errorf("%s asks for %s, which there is not", file, name)
		}
		for _, label := range regexp.MustCompile(`([a-z_]+)=`).FindAllStringSubmatch(m[1], -1) {
			if !slices.Contains(names[name], label[1]) {
				t.Errorf("%s: %s has no label %s", file, name, label[1])
			}
		}
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed: the rules' syntax is not checked (e2e/install.sh installs it)")
	}
	cmd := exec.Command(promtool, "check", "rules", file)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}
