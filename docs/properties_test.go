package docs

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

// exampleProperties are those of the examples of settings.
var exampleProperties = []sandbox.Property{
	{Name: "external_id", Label: "External id", Type: "string", FieldType: "text", HasUniqueValue: true},
	{Name: "plan_tier", Label: "Plan", Type: "string", FieldType: "text"},
	{Name: "fullname", Label: "Name", Type: "string", FieldType: "text"},
	{Name: "seats", Label: "Seats", Type: "number", FieldType: "number"},
	{Name: "born", Label: "Born", Type: "date", FieldType: "date"},
	{Name: "interests", Label: "Interests", Type: "enumeration", FieldType: "checkbox", Options: []sandbox.Option{
		{Label: "Art", Value: "art"}, {Label: "Cars", Value: "cars"},
	}},
}

// TestPropertyExamples: the table of settings in hubspot.md, from the events to what HubSpot holds, in one batch and in several.
func TestPropertyExamples(t *testing.T) {
	var examples table
	for _, tb := range load(t, "hubspot.md").tables {
		if strings.Join(tb.header, " ") == "settings user contact" {
			examples = tb
		}
	}
	if len(examples.rows) < 15 {
		t.Fatal("hubspot.md lacks its table of settings")
	}
	for _, row := range examples.rows {
		for _, apart := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) { propertyExample(t, row, apart) })
		}
	}
}

func propertyExample(t *testing.T, row []string, apart bool) {
	t.Helper()
	settings, err := config.NewSettings("hubspot.md", "hubspot", []byte("access_token: x\nhub_id: 1\n"+code(row[0])[0]))
	if err != nil {
		t.Fatalf("%s: %v", row[0], err)
	}
	box := sandbox.New(sandbox.Options{HubID: "1", Properties: exampleProperties})
	d, err := hubspot.New(settings, destinations.Env{
		Name: "crm", Transport: box.RoundTripper(), Metrics: destinations.NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		t.Fatalf("%s: %v", row[0], err)
	}
	var batch []destinations.Entry
	send := func() {
		p, err := d.Acquire(context.Background(), "", batch[0].Plan.Lane)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range d.Send(context.Background(), p, batch) {
			if o.Err != nil {
				t.Errorf("%s %s: %v", row[0], row[1], o.Err)
			}
		}
		batch = nil
	}
	for i, user := range code(row[1]) {
		if !strings.Contains(user, `"email"`) {
			user = `{"email":"a@example.com",` + strings.TrimPrefix(user, "{")
		}
		ev := &event.Event{ID: strconv.Itoa(i), APIKey: "k", Received: time.Now(), Server: true, JSON: []byte(`{"event_type":"user_identify","user":` + user + `}`)}
		plans, err := d.Plan(ev)
		if err != nil || len(plans) != 1 {
			t.Fatalf("%s %s: %v, %v", row[0], row[1], plans, err)
		}
		batch = append(batch, destinations.Entry{Name: destinations.OutputName{Offset: uint64(i)}, Plan: plans[0], Event: ev, Attempt: 1})
		if apart {
			send()
		}
	}
	if !apart {
		send()
	}
	var want map[string]string
	if err := json.Unmarshal([]byte(code(row[2])[0]), &want); err != nil {
		t.Fatal(err)
	}
	contacts := box.Contacts()
	if len(contacts) != 1 {
		t.Fatalf("%s %s: %d contacts", row[0], row[1], len(contacts))
	}
	got := contacts[0].Properties
	if want["email"] == "" {
		delete(got, "email")
	}
	for name, v := range got {
		if v == "" { // cleared
			delete(got, name)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s %s, one by one: %v (-page +HubSpot)\n%s", row[0], row[1], apart, diff)
	}
}

// TestReasonsOfWhatIsLeftOut: the page has the reasons that the code has.
func TestReasonsOfWhatIsLeftOut(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../pkg/destinations/hubspot/merge.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if ok && strings.HasPrefix(v.Names[0].Name, "reason") {
			text, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, text)
		}
		return true
	})
	var got []string
	for _, row := range load(t, "hubspot.md").tableUnder(t, "What was left out").rows {
		got = append(got, code(row[0])...)
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" || len(want) < 5 {
		t.Error(fmt.Sprint("reasons (-code +hubspot.md):\n", diff))
	}
}
