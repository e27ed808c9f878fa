package docs

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"gopkg.in/yaml.v3"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/destinationtest"
	"eventrouter/pkg/destinations/webhook"
	"eventrouter/pkg/event"
)

// hook is a webhook in front of a receiver in memory.
type hook struct {
	dest   destinations.Destination
	answer func() *http.Response
	got    []*http.Request
	bodies []string
}

func (h *hook) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	h.got, h.bodies = append(h.got, r), append(h.bodies, string(body))
	res := h.answer()
	if res == nil {
		return nil, errors.New("connection reset by peer")
	}
	res.Body, res.Request = io.NopCloser(strings.NewReader("")), r
	return res, nil
}

// newHook makes one of settings as they stand in a cell: in one line, without braces.
func newHook(t *testing.T, settings string) *hook {
	t.Helper()
	h := &hook{answer: func() *http.Response { return &http.Response{StatusCode: 200, Header: http.Header{}} }}
	if !strings.Contains(settings, "url: ") {
		settings = strings.Trim("url: https://example.com/, "+settings, ", ")
	}
	s, err := config.NewSettings("webhook.md", "webhook", []byte("{"+settings+"}"))
	if err != nil {
		t.Fatalf("%s: %v", settings, err)
	}
	h.dest, err = webhook.New(s, destinations.Env{Name: "events", Transport: h, Metrics: destinations.NewMetrics(prometheus.NewRegistry())})
	if err != nil {
		t.Fatalf("%s: %v", settings, err)
	}
	return h
}

func (h *hook) send(t *testing.T, events ...string) []destinations.Outcome {
	t.Helper()
	var batch []destinations.Entry
	for i, json := range events {
		ev := &event.Event{ID: strconv.Itoa(i), APIKey: "web", Server: true, JSON: []byte(json)}
		plans, err := h.dest.Plan(ev)
		if err != nil {
			t.Fatal(err)
		}
		batch = append(batch, destinations.Entry{Name: destinations.OutputName{Offset: uint64(i)}, Plan: plans[0], Event: ev, Attempt: 1})
	}
	p, err := h.dest.Acquire(context.Background(), "", plansLane(batch))
	if err != nil {
		t.Fatal(err)
	}
	return h.dest.Send(context.Background(), p, batch)
}

func plansLane(batch []destinations.Entry) string { return batch[0].Plan.Lane }

// TestWebhookSettings: the page has every key, with the default that it has, and so does configs/router.yaml.
func TestWebhookSettings(t *testing.T) {
	t.Parallel()
	want := config.Keys(webhook.Settings{})
	for i, key := range want { // values of maps and lists are no keys
		want[i] = strings.TrimSuffix(key, ".*")
	}
	slices.Sort(want)
	keys := keysUnder(t, load(t, "webhook.md"), "Settings")
	var got []string
	for key, d := range keys {
		got = append(got, key)
		if d.meaning == "" || d.kind == "" != (d.def == "") {
			t.Errorf("webhook.md: %s is not explained", key)
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("webhook.md (-decoder +page):\n%s", diff)
	}
	f := func(name string, data []byte) {
		t.Helper()
		s, err := config.NewSettings(name, "webhook", data)
		if err != nil {
			t.Fatal(err)
		}
		settings := webhook.Settings{Method: "unset"}
		if err := s.Decode(&settings); err != nil {
			t.Fatal(err)
		}
		defaults := webhook.DefaultSettings()
		defaults.URL = settings.URL
		if len(settings.Headers) == 0 {
			settings.Headers = nil
		}
		if len(settings.Secret) == 0 {
			settings.Secret = nil
		}
		if slices.Equal(settings.AllowPrivate, config.Words{"false"}) {
			settings.AllowPrivate = nil
		}
		if diff := cmp.Diff(defaults, settings); diff != "" {
			t.Errorf("%s (-default +file):\n%s", name, diff)
		}
	}
	f("webhook.md", encode(t, asYAML(t, keys)))
	data, err := os.ReadFile("../configs/router.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Destinations map[string]map[string]any
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	shown, _ := file.Destinations["events"]["webhook"].(map[string]any)
	got = keysOf(shown, "")
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configs/router.yaml (-decoder +file):\n%s", diff)
	}
	f("configs/router.yaml", encode(t, shown))
}

// TestWebhookRequests: what is sent of the page's event.
func TestWebhookRequests(t *testing.T) {
	t.Parallel()
	const json = `{"event_type": "sign up", "user": {"id": "u/1", "email": "ada@example.com"}, "n": 12345678901234567890}`
	p := load(t, "webhook.md")
	if !strings.Contains(p.text, "`"+json+"`") {
		t.Error("the page does not show the event")
	}
	for _, row := range p.tableUnder(t, "What is sent").rows {
		h := newHook(t, code(row[0])[0])
		if o := h.send(t, json)[0]; o.Err != nil {
			t.Errorf("%s: %v", row[0], o.Err)
			continue
		}
		want := append(code(row[1]), strings.Join(code(row[2]), ""))
		got := []string{h.got[0].Method + " " + h.got[0].URL.String(), h.bodies[0]}
		if diff := cmp.Diff(want, got); diff != "" || h.got[0].Header.Get("webhook-id") == "" {
			t.Errorf("%s (-page +sent):\n%s", row[0], diff)
		}
	}
}

// TestWebhookKeys: which events keep their order.
func TestWebhookKeys(t *testing.T) {
	t.Parallel()
	events := []string{
		`{"user":{"email":"Ada@example.com","id":"1"},"order":{"id":7}}`, `{"user":{"email":"ada@example.com","id":"2"},"order":{"id":8}}`,
		`{"user":{"id":"1"},"order":{"id":7}}`, `{"user":{"anonymous_id":"1"}}`, `{}`,
	}
	want := map[string]string{"person": "a a b c -", "none": "- - - - -", "all": "a a a a a", "$.order.id": "a b a - -"}
	rows := load(t, "webhook.md").tableUnder(t, "Order and repetition").rows
	if len(rows) != len(want) {
		t.Errorf("%d rows", len(rows))
	}
	for _, row := range rows {
		setting := code(row[0])[0]
		h := newHook(t, "key: '"+setting+"'")
		names, got := map[string]string{"": "-"}, []string(nil)
		for _, json := range events {
			plans, err := h.dest.Plan(&event.Event{JSON: []byte(json)})
			if err != nil {
				t.Fatal(err)
			}
			key := plans[0].Key
			if names[key] == "" {
				names[key] = string(rune('a' + len(names) - 1))
			}
			got = append(got, names[key])
		}
		if strings.Join(got, " ") != want[setting] {
			t.Errorf("%s: %v, want %s", setting, got, want[setting])
		}
	}
}

// TestWebhookAnswers: the table has every status, and each is what becomes of an event.
func TestWebhookAnswers(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	var other []string
	for _, row := range load(t, "webhook.md").tableUnder(t, "Answers").rows {
		if strings.Contains(row[0], "any other") {
			other = row
			continue
		}
		header := http.Header{}
		statuses := statusesOf(t, row[0])
		if _, wait, ok := strings.Cut(row[0], "`Retry-After: "); ok {
			header.Set("Retry-After", strings.TrimSuffix(wait, "`"))
			statuses = []int{408, 425, 429, 500, 503, 599}
		}
		for _, status := range statuses {
			seen[status] = true
			checkAnswer(t, row, &http.Response{StatusCode: status, Header: header})
		}
		if strings.Contains(row[0], "no whole answer") {
			checkAnswer(t, row, nil)
		}
	}
	for status := 200; status < 600; status++ {
		switch {
		case seen[status]:
		case other != nil && status >= 400 && status < 500:
			checkAnswer(t, other, &http.Response{StatusCode: status, Header: http.Header{}})
		default:
			t.Errorf("the table lacks %d", status)
		}
	}
}

// statusesOf reads a cell such as "`429` `500` to `599`".
func statusesOf(t *testing.T, cell string) (all []int) {
	t.Helper()
	spans := code(cell)
	for i, span := range spans {
		n, err := strconv.Atoi(span)
		if err != nil {
			continue
		}
		if i > 0 && strings.Contains(cell, "`"+spans[i-1]+"` to `"+span+"`") {
			for between := all[len(all)-1] + 1; between < n; between++ {
				all = append(all, between)
			}
		}
		all = append(all, n)
	}
	return all
}

func checkAnswer(t *testing.T, row []string, res *http.Response) {
	t.Helper()
	for i, settings := range []string{"", "url: 'https://example.com/{{.a}}'"} {
		synctest.Test(t, func(t *testing.T) {
			h := newHook(t, settings)
			h.answer = func() *http.Response {
				if res == nil {
					return nil
				}
				return &http.Response{StatusCode: res.StatusCode, Header: res.Header}
			}
			if got := becomes(h.send(t, `{"a":1}`)[0].Err); got != row[1+i] {
				t.Errorf("%s, %+v, %s: %s, the page says %s", row[0], res, settings, got, row[1+i])
			}
		})
	}
}

// becomes is an outcome in the words of the page.
func becomes(err error) string {
	return strings.Replace(destinationtest.Class(err), "rejected", "dead letter", 1)
}

// TestReceiver: the receiver of the page takes what is signed, and nothing else.
func TestReceiver(t *testing.T) {
	t.Parallel()
	const key, old = "0123456789abcdef", "fedcba9876543210"
	h := newHook(t, "secret: ["+key+", "+old+"]")
	h.send(t, `{"a":1}`)
	header, body, now := h.got[0].Header, []byte(h.bodies[0]), time.Now()
	f := func(what, key string, change func(http.Header), body []byte, at time.Time, want bool) {
		t.Helper()
		changed := header.Clone()
		if change != nil {
			change(changed)
		}
		if err := verify([]byte(key), changed, body, at); (err == nil) != want {
			t.Errorf("%s: %v, want taken %v", what, err, want)
		}
	}
	f("a request as it is", key, nil, body, now, true)
	f("the old secret", old, nil, body, now, true)
	f("another secret", "another secret here", nil, body, now, false)
	f("another body", key, nil, append(body[:len(body):len(body)], ' '), now, false)
	f("another id", key, func(h http.Header) { h.Set("webhook-id", "x") }, body, now, false)
	f("another time", key, func(h http.Header) { h.Set("webhook-timestamp", strconv.FormatInt(now.Unix()+1, 10)) }, body, now, false)
	f("an old request", key, nil, body, now.Add(6*time.Minute), false)
	f("no time", key, func(h http.Header) { h.Del("webhook-timestamp") }, body, now, false)
	f("no signature", key, func(h http.Header) { h.Del("webhook-signature") }, body, now, false)
	f("another version", key, func(h http.Header) {
		h.Set("webhook-signature", strings.ReplaceAll(h.Get("webhook-signature"), "v1,", "v2,"))
	}, body, now, false)
}
