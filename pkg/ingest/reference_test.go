package ingest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"eventrouter/docs"
	"eventrouter/pkg/config"

	"github.com/google/go-cmp/cmp"
)

// differences are the cases that are answered otherwise than by Jitsu on purpose: status, and the message or body. The reasons are in the table
// of the documentation, which lists the same cases.
var differences = map[string]struct {
	status int
	want   string
}{
	"no token":                                    {401, "The token is not found"},
	"unknown token 2":                             {401, "The token is not found"},
	"client trailing slash -> gin redirect":       {200, `{"status":"ok"}`},
	"leading newline":                             {200, `{"status":"ok"}`},
	"two concatenated objects: second ignored":    {400, "Error parsing events body: error parsing HTTP body: invalid character '{' after top-level value"},
	"array with null":                             {400, "Error parsing events body: element 0 is null, not an object"},
	"array avg under limit (one 90KB + one tiny)": {400, "Error parsing events body: Size of one of events exceeds limit: 51200"},
	"OPTIONS origin https://notexample.com":       {200, ""},
	"segment client token rejected":               {401, "The token isn't a server secret token. Please use an s2s integration token"},
	"bulk without trailing newline":               {200, `{"status":"ok","received":1,"accepted":1,"rejected":0,"next_line":2,"errors":[]}`},
	"bulk not multipart":                          {200, `{"status":"ok","received":1,"accepted":1,"rejected":0,"next_line":2,"errors":[]}`},
	"bulk no destinations":                        {422, "No destination is configured for this token (or only staged ones)"},
	"admin bad token":                             {404, "404 page not found"},
	"replay missing file":                         {404, "404 page not found"},
	"test destination no creds":                   {404, "404 page not found"},
	"test destination no hub":                     {404, "404 page not found"},
	"test destination no section":                 {404, "404 page not found"},
	"test destination unknown type":               {404, "404 page not found"},
	"static missing":                              {404, "404 page not found: this router serves no files: set server.static_files_dir to the folder that holds lib.js"},
}

// elsewhere are the cases of pages that ingest is given (Options.Admin), which are tested where they are made.
var elsewhere = map[string]bool{"events cache bad ns": true, "dry run unknown dest": true, "fallback list": true}

// referenceCases are requests to Jitsu and what it answered.
func referenceCases[T any](t *testing.T, group string) []T {
	t.Helper()
	data, err := os.ReadFile("../../testdata/jitsu/ingest.json")
	if err != nil {
		t.Fatal(err)
	}
	var groups map[string]json.RawMessage
	if err := json.Unmarshal(data, &groups); err != nil {
		t.Fatal(err)
	}
	var cases []T
	if err := json.Unmarshal(groups[group], &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) == 0 {
		t.Fatalf("no cases in group %s", group)
	}
	return cases
}

type httpCase struct {
	Name    string
	Request struct {
		Method, Path string
		Headers      map[string]string
		Body         json.RawMessage
	}
	Response struct {
		Status  int
		Headers map[string]string
		Body    string
	}
}

func TestReferenceHTTP(t *testing.T) {
	base := start(t, testOptions(&memoryLog{}))
	reasons := docs.Differences("ingest_http")
	if diff := cmp.Diff(slices.Sorted(maps.Keys(reasons)), slices.Sorted(maps.Keys(differences))); diff != "" {
		t.Errorf("the cases that differ from Jitsu's are not those that the documentation lists (-listed +here):\n%s", diff)
	}
	for _, c := range referenceCases[httpCase](t, "ingest_http") {
		if elsewhere[c.Name] {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			var headers []string
			for k, v := range c.Request.Headers {
				headers = append(headers, k, v)
			}
			got := send(t, c.Request.Method, base+c.Request.Path, caseBody(t, c.Request.Body), headers...)
			diff := compareAnswer(got, c.Response.Status, c.Response.Headers, c.Response.Body)
			d, deliberate := differences[c.Name]
			switch {
			case !deliberate && diff != "":
				t.Errorf("not Jitsu's answer (-Jitsu +got):\n%s", diff)
			case deliberate && diff == "":
				t.Errorf("listed as a difference (%s), but Jitsu's answer was given", reasons[c.Name])
			case deliberate && (got.status != d.status || message(got.body) != d.want):
				t.Errorf("got %d %q, want %d %q (%s)", got.status, message(got.body), d.status, d.want, reasons[c.Name])
			}
		})
	}
}

// caseBody makes the bytes of a case's body.
func caseBody(t *testing.T, raw json.RawMessage) []byte {
	t.Helper()
	var text string
	var big struct {
		Bytes int    `json:"$big_body_bytes"`
		Shape string `json:"$shape"`
	}
	switch {
	case bytes.Equal(raw, []byte("null")):
		return nil
	case json.Unmarshal(raw, &text) == nil:
		var latin1 []byte // a case holds one byte per character, so that it can hold bytes that are no UTF-8
		for _, r := range text {
			latin1 = append(latin1, byte(r))
		}
		return latin1
	case json.Unmarshal(raw, &big) == nil && big.Bytes > 0:
		shapes := map[string]string{
			"{event_type, x:51200 chars}": `{"event_type":"t","x":"%s"}`,
			"[{x:60000 chars}]":           `[{"x": "%s"}]`,
			"[{x:90000 chars},{a:1}]":     `[{"x": "%s"}, {"a": 1}]`,
		}
		shape, ok := shapes[big.Shape]
		if !ok {
			t.Fatalf("unknown shape %q", big.Shape)
		}
		return fmt.Appendf(nil, shape, strings.Repeat("x", big.Bytes-len(shape)+len("%s")))
	}
	return raw
}

// compareAnswer compares what clients of Jitsu can rely on: status, content type, CORS, and the body. Of the error envelope `message`
// counts: `error`, mostly empty there, says here where or what to do.
func compareAnswer(got answer, status int, headers map[string]string, body string) string {
	type relied struct {
		Status      int
		ContentType string
		CORS        map[string]string
		Body        string
	}
	cors := []string{
		"access-control-allow-origin", "access-control-allow-credentials", "access-control-allow-headers",
		"access-control-allow-methods", "access-control-max-age",
	}
	want := relied{Status: status, CORS: map[string]string{}, Body: message(body)}
	have := relied{Status: got.status, CORS: map[string]string{}, Body: message(got.body)}
	for _, h := range cors {
		want.CORS[h], have.CORS[h] = headers[h], got.header.Get(h)
	}
	if ct := headers["content-type"]; ct != "" && body != "" {
		want.ContentType, have.ContentType = ct, got.header.Get("Content-Type")
		if ct == "text/plain" {
			want.ContentType += "; charset=utf-8"
		}
	}
	return cmp.Diff(want, have)
}

// message returns the message of an error envelope, any other body as it is; those that are no text are recorded in base64.
func message(body string) string {
	if encoded, ok := strings.CutPrefix(body, "base64:"); ok {
		data, _ := base64.StdEncoding.DecodeString(encoded)
		return string(data)
	}
	var envelope struct{ Message, Error *string }
	if json.Unmarshal([]byte(body), &envelope) == nil && envelope.Message != nil && envelope.Error != nil {
		return *envelope.Message
	}
	return body
}

func TestReferenceCORSRoutes(t *testing.T) {
	o := testOptions(&memoryLog{})
	o.APIKeys = []config.APIKey{
		{ID: "c2s", ClientSecret: "c2stoken", Origins: []string{"whiteorigin*"}},
		{ID: "s2s", ServerSecret: "s2stoken"},
	}
	base := start(t, o)
	type corsCase struct {
		Name, ReqUrn, ReqOrigin, XAuthToken, ExpectedCorsHeaderValue string
		ResponseCode                                                 int
	}
	for _, c := range referenceCases[corsCase](t, "upstream-tests.cors_routes") {
		t.Run(c.Name, func(t *testing.T) {
			got := send(t, "OPTIONS", base+c.ReqUrn, nil, "Origin", c.ReqOrigin, "X-Auth-Token", c.XAuthToken)
			wantStatus, wantOrigin := c.ResponseCode, c.ExpectedCorsHeaderValue
			if d, ok := differences[c.Name]; ok {
				wantStatus, wantOrigin = d.status, ""
			}
			if origin := got.header.Get("Access-Control-Allow-Origin"); got.status != wantStatus || origin != wantOrigin {
				t.Errorf("got %d and origin %q, want %d and %q", got.status, origin, wantStatus, wantOrigin)
			}
		})
	}
}

func TestReferenceCORSRules(t *testing.T) {
	type ruleCase struct {
		Name, Expression, InputHost, InputOrigin string
		Expected                                 bool
	}
	for _, c := range referenceCases[ruleCase](t, "upstream-tests.cors_rule") {
		r := newOriginRule(c.Expression)
		if got := r.matches(bareHost([]byte(c.InputOrigin)), []byte(c.InputHost)); got != c.Expected {
			t.Errorf("%s: %q matches %s at host %s: got %v, want %v", c.Name, c.Expression, c.InputOrigin, c.InputHost, got, c.Expected)
		}
	}
}
