package sandbox

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// client calls a sandbox in memory.
type client struct {
	t *testing.T
	*Sandbox
	header http.Header // of the last answer
}

func newClient(t *testing.T, o Options) *client { return &client{t: t, Sandbox: New(o)} }

// call sends body, if it is not empty, and returns status and answer. It fails the test when the answer is no JSON.
func (c *client) call(method, path, body string) (int, gjson.Result) {
	c.t.Helper()
	r, err := http.NewRequest(method, "http://sandbox"+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer pat-na1-test")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return c.do(r)
}

func (c *client) do(r *http.Request) (int, gjson.Result) {
	c.t.Helper()
	resp, err := c.RoundTripper().RoundTrip(r)
	if err != nil {
		c.t.Fatalf("%s %s: %v", r.Method, r.URL.Path, err)
	}
	defer resp.Body.Close()
	answer, err := readBody(resp.Body, resp.ContentLength)
	if err != nil {
		c.t.Fatal(err)
	}
	if len(answer) > 0 && !gjson.ValidBytes(answer) {
		c.t.Fatalf("%s %s: answer is no JSON: %s", r.Method, r.URL.Path, answer)
	}
	c.header = resp.Header
	return resp.StatusCode, gjson.ParseBytes(answer)
}

// must calls and fails the test unless the status is want.
func (c *client) must(want int, method, path, body string) gjson.Result {
	c.t.Helper()
	status, answer := c.call(method, path, body)
	if status != want {
		c.t.Fatalf("%s %s %.300s: status %d, want %d: %s", method, path, body, status, want, answer.Raw)
	}
	return answer
}

const (
	contactsPath    = "/crm/v3/objects/contacts"
	upsertPath      = contactsPath + "/batch/upsert"
	propertiesPath  = "/crm/v3/properties/contacts"
	sendPath        = "/events/v3/send"
	definitionsPath = "/events/v3/event-definitions"
)

// upsert is a batch with one input of properties {"email":email, more...}; more is name, value, name, value.
func upsert(email string, more ...string) string { return batch(inputOf("", email, more...)) }

// batch wraps inputs.
func batch(inputs ...string) string { return `{"inputs":[` + strings.Join(inputs, ",") + `]}` }

// inputOf is one upsert input; no trace id when trace is "".
func inputOf(trace, email string, more ...string) string {
	in := `{"idProperty":"email","id":` + strconv.Quote(email)
	if trace != "" {
		in += `,"objectWriteTraceId":` + strconv.Quote(trace)
	}
	return in + `,"properties":` + object(append([]string{"email", email}, more...)...) + `}`
}

// object is {"name":"value",...}.
func object(pairs ...string) string {
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Quote(pairs[i]) + ":" + strconv.Quote(pairs[i+1]))
	}
	return "{" + b.String() + "}"
}

// all joins the texts of a gjson list path.
func all(answer gjson.Result, path string) string {
	var out []string
	for _, r := range answer.Get(path).Array() {
		out = append(out, r.String())
	}
	return strings.Join(out, " ")
}
