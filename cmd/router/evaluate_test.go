package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventrouter/docs"
)

// startEvaluating is a router that delivers to nobody who listens.
func startEvaluating(t *testing.T) *running {
	t.Helper()
	cfg, err := load(write(t, fmt.Sprintf(dryRunConfig, t.TempDir(), demoToken, demoHub, "http://127.0.0.1:1")))
	if err != nil {
		t.Fatal(err)
	}
	return startService(t, cfg)
}

// evaluated posts to /api/v1/templates/evaluate.
func (r *running) evaluated(body any) (int, evaluated) {
	r.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		r.t.Fatal(err)
	}
	status, answer := r.ask(evaluatePath, string(data), "X-Admin-Token", "letmein-admin")
	var out evaluated
	if err := json.Unmarshal([]byte(answer), &out); err != nil {
		r.t.Fatalf("%d %s: %v", status, answer, err)
	}
	return status, out
}

const jitsuObject = `{"event_type":"signup","user":{"email":"john@example.com","id":"u1"},"price":12.5,"big":12345678901234567890,"_timestamp":"2020-08-02T18:23:58.057807Z","api_key":"k","eventn_ctx_event_id":"id1"}`

func TestEvaluate(t *testing.T) {
	r := startEvaluating(t)
	f := func(in map[string]any, want evaluated) {
		t.Helper()
		if _, ok := in["object"]; !ok {
			in["object"] = json.RawMessage(jitsuObject)
		}
		wantStatus := http.StatusOK
		if want.Error != "" {
			wantStatus = http.StatusBadRequest
		}
		status, got := r.evaluated(in)
		if diff := cmp.Diff(want, got); status != wantStatus || diff != "" {
			t.Errorf("%v: %d (-want +got)\n%s", in, status, diff)
		}
	}
	f(map[string]any{"expression": "$.user.email"}, evaluated{Result: "john@example.com", Format: "javascript"})
	f(map[string]any{"expression": "$.user.email", "reformat": true}, evaluated{Result: "john_example_com", Format: "javascript"})
	f(map[string]any{"expression": "{{.price}}"}, evaluated{Result: "12.5", Format: "go"})
	f(map[string]any{"expression": "events"}, evaluated{Result: "events", Format: "constant"})
	f(map[string]any{"expression": "$.nobody.email", "reformat": true}, evaluated{
		Format: "javascript", Logs: []evaluateLog{{"info", "reads a member of something that the event does not have"}},
	})
	f(map[string]any{"expression": "destinationId + destinationType", "uid": "a", "type": "hubspot"}, evaluated{Result: "ahubspot", Format: "javascript"})
	f(map[string]any{"expression": `destinationId + ""`, "template_variables": map[string]any{"destinationId": "b"}}, evaluated{Result: "b", Format: "javascript"})

	small := json.RawMessage(`{"event_type":"a","user":{"id":1},"_timestamp":"2020-08-02T18:23:58.057807Z"}`)
	f(map[string]any{"field": "_transform", "object": small, "expression": "return {...$, a: 1}"}, evaluated{
		Result: "{\n   \"_timestamp\": \"2020-08-02T18:23:58.057807Z\",\n   \"a\": 1,\n   \"event_type\": \"a\",\n   \"user\": {\n      \"id\": 1\n   }\n}",
		Format: "javascript",
	})
	f(map[string]any{"field": "_transform", "expression": "return null"}, evaluated{
		Result: "SKIPPED", Format: "javascript", Logs: []evaluateLog{{"info", "the transform returned null"}},
	})
	f(map[string]any{
		"field": "_transform", "config": json.RawMessage(`{"type":"hubspot","config":{"access_token":"x","hub_id":"1"},"data_layout":{"transform":"return []"}}`),
	}, evaluated{Result: "SKIPPED", Format: "javascript", Logs: []evaluateLog{{"info", "the transform returned an empty list"}}})

	f(map[string]any{"object": nil, "expression": "$"}, evaluated{Error: "'object' is required field"})
	f(map[string]any{"expression": ""}, evaluated{Error: "'expression' is required field"})
	f(map[string]any{"field": "_transform"}, evaluated{Error: "'expression' is required field"})
	f(map[string]any{"expression": "$.x =="}, evaluated{Error: "line 1, column 7: unexpected end of the script"})
	f(map[string]any{"expression": `throw new Error("boom")`}, evaluated{Format: "javascript", Error: "line 1, column 7: Error: boom"})
	f(map[string]any{"expression": "$.a", "template_variables": map[string]any{"x": 1}}, evaluated{
		Error: `template_variables: "x": a script of the router has destinationId and destinationType, and no others`,
	})
	if status, answer := r.ask(evaluatePath, `{"object":{},"expression":"$"}`); status != http.StatusUnauthorized {
		t.Errorf("without the admin token: %d %s", status, answer)
	}
	if status, answer := r.ask(evaluatePath, `{"object":{"a":"`+demoToken+`"},"expression":"$.a"}`, "X-Admin-Token", "letmein-admin"); status != http.StatusOK || strings.Contains(answer, demoToken) {
		t.Errorf("a secret in the object: %d %s", status, answer)
	}
}

// TestEvaluateAsJitsu plays what Jitsu answered.
func TestEvaluateAsJitsu(t *testing.T) {
	data, err := os.ReadFile("../../testdata/jitsu/evaluate.json")
	if err != nil {
		t.Fatal(err)
	}
	var recorded struct {
		Object json.RawMessage
		Cases  []struct {
			Case, Expression string
			DataLayout       json.RawMessage `json:"data_layout"`
			Config           map[string]any
			HTTP             int
			Response         evaluated
		}
	}
	if err := json.Unmarshal(data, &recorded); err != nil || len(recorded.Cases) == 0 {
		t.Fatal(len(recorded.Cases), err)
	}
	r := startEvaluating(t)
	reasons := docs.Differences("evaluate")
	played := map[string]bool{}
	for _, c := range recorded.Cases {
		in := map[string]any{"object": recorded.Object, "expression": c.Expression, "type": "hubspot", "uid": "dst1", "reformat": true}
		if c.Expression == "" {
			in["field"], in["expression"] = "_transform", "return $"
			if c.Config == nil {
				c.Config = map[string]any{"type": "hubspot", "config": map[string]any{"access_token": "x", "hub_id": "1"}, "data_layout": c.DataLayout}
			}
			in["config"] = c.Config
		}
		status, got := r.evaluated(in)
		diff := cmp.Diff(c.Response, got)
		_, deliberate := reasons[c.Case]
		played[c.Case] = true
		switch same := diff == "" && status == c.HTTP; {
		case !deliberate && !same:
			t.Errorf("%s: %d, not Jitsu's answer (-Jitsu %d +got):\n%s", c.Case, status, c.HTTP, diff)
		case deliberate && same:
			t.Errorf("%s: listed as a difference, but Jitsu's answer was given", c.Case)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(reasons)) {
		if !played[name] {
			t.Errorf("the documentation lists a case %q, which nobody recorded", name)
		}
	}
}

// TestEvaluateReadsNoFiles: whoever may ask what a transform does may not read this machine's files with it.
func TestEvaluateReadsNoFiles(t *testing.T) {
	r := startEvaluating(t)
	file := write(t, `return {found: "in-the-file"}`)
	f := func(path string, in map[string]any) {
		t.Helper()
		data, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		status, answer := r.ask(path, string(data), "X-Admin-Token", "letmein-admin")
		if status == http.StatusOK || strings.Contains(answer, "in-the-file") || !strings.Contains(answer, "transform_file") {
			t.Errorf("%s: %d %s", path, status, answer)
		}
	}
	dest := map[string]any{
		"type": "webhook", "config": map[string]any{"url": "http://127.0.0.1:1/", "allow_private": true}, "data_layout": map[string]any{"transform_file": file},
	}
	f(evaluatePath, map[string]any{"field": "_transform", "object": map[string]any{}, "config": dest})
	f("/api/v1/destinations/test", dest)
	dest["data_layout"] = map[string]any{"transform_file": "/no/such/file.js"}
	f(evaluatePath, map[string]any{"field": "_transform", "object": map[string]any{}, "config": dest})
}
