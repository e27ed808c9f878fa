package docs

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// exchange is a request of openapi.yaml and the answer that it gets.
type exchange struct {
	op      *operation
	name    string     // of the example of the request; "" for none
	label   string     // of the example of the answer
	kind    string     // media type of the request's example
	body    *yaml.Node // its value
	with    *yaml.Node // x-request: what is different
	status  string
	answer  *yaml.Node
	media   string     // of the answer's example, "" for none
	example *yaml.Node // of the answer, nil for none
}

func (e *exchange) String() string {
	return strings.Join(strings.Fields(e.op.String()+" "+e.name+" "+e.status+" "+e.label), " ")
}

// exchanges are those of an operation: each example of a request, each example of an answer, and each answer that has none.
func (s *spec) exchanges(t *testing.T, o *operation) []*exchange {
	t.Helper()
	var answers []*exchange
	for status, a := range pairs(member(o.Node, "responses")) {
		a = s.follow(a)
		before := len(answers)
		for media, content := range pairs(member(a, "content")) {
			for name, example := range pairs(member(content, "examples")) {
				answers = append(answers, &exchange{
					op: o, label: name, status: status, answer: a, media: media, example: example, with: member(example, "x-request"),
				})
			}
		}
		if len(answers) == before {
			answers = append(answers, &exchange{op: o, status: status, answer: a, with: member(a, "x-request")})
		}
	}
	taken := map[int]bool{}
	var all []*exchange
	var kind string
	var body *yaml.Node
	request := func(name, media string, value *yaml.Node) {
		if body == nil {
			kind, body = media, value
		}
		to := 0
		for i, a := range answers {
			if a.label == name {
				to = i
				break
			}
		}
		taken[to] = true
		e := *answers[to]
		e.name, e.kind, e.body = name, media, value
		all = append(all, &e)
	}
	for media, content := range pairs(s.get(o.Node, "requestBody", "content")) {
		for name, example := range pairs(member(content, "examples")) {
			request(name, media, member(example, "value"))
		}
	}
	if body == nil {
		names := map[string]bool{}
		for _, p := range o.params {
			for name := range pairs(member(p, "examples")) {
				if !names[name] {
					names[name] = true
					request(name, "", nil)
				}
			}
		}
	}
	for i, a := range answers {
		if !taken[i] {
			a.kind, a.body = kind, body
			all = append(all, a)
		}
	}
	return all
}

// request makes the request of e for a router.
func (s *spec) request(t *testing.T, e *exchange, d *deployment) *http.Request {
	t.Helper()
	path, query, header := e.op.path, url.Values{}, http.Header{}
	for _, p := range e.op.params {
		value := s.parameter(p, e.name)
		if value == nil {
			continue
		}
		name := text(member(p, "name"))
		switch text(member(p, "in")) {
		case "path":
			path = strings.ReplaceAll(path, "{"+name+"}", value.Value)
		case "query":
			query.Set(name, value.Value)
		case "header":
			header.Set(name, value.Value)
		}
	}
	for name, value := range pairs(member(e.with, "path")) {
		path = strings.ReplaceAll(e.op.path, "{"+name+"}", value.Value)
	}
	for name, value := range pairs(member(e.with, "query")) {
		query.Set(name, value.Value)
	}
	for i := range e.count("parameters") {
		query.Set("x"+strconv.Itoa(i), "x")
	}
	body, kind := e.requestBody(t)
	body = bytes.ReplaceAll(body, []byte("localhost:8002"), []byte(d.hub))
	for name, value := range pairs(member(e.with, "headers")) {
		if n, err := strconv.Atoi(text(member(value, "bytes"))); err == nil {
			header.Set(name, strings.Repeat("x", n))
			body, kind = nil, "" // it would be sent to a connection that is closed
			continue
		}
		header.Set(name, value.Value)
	}
	if header.Get("Content-Encoding") == "gzip" {
		var zipped bytes.Buffer
		w := gzip.NewWriter(&zipped)
		w.Write(body)
		w.Close()
		body = zipped.Bytes()
	}
	if kind != "" {
		header.Set("Content-Type", kind)
	}
	method := e.op.method
	if m := text(member(e.with, "method")); m != "" {
		method = m
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+d.router+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Host, req.Header = "localhost:8001", header
	if account := text(member(e.with, "token")); account != "" {
		header.Set("Authorization", "Bearer "+d.token(t, account))
	}
	scheme := text(member(e.with, "scheme"))
	if scheme == "" && len(e.op.schemes) > 0 {
		scheme = e.op.schemes[0]
	}
	s.authorize(t, req, query, scheme, secretOf(e.op.secret, text(member(e.with, "key"))))
	req.URL.RawQuery = query.Encode()
	return req
}

// count is a number of x-request, 0 if it has none.
func (e *exchange) count(name string) int {
	n, _ := strconv.Atoi(text(member(e.with, name)))
	return n
}

// requestBody is the body with its type.
func (e *exchange) requestBody(t *testing.T) (body []byte, kind string) {
	t.Helper()
	value := e.body
	if other := member(e.with, "body"); other != nil {
		value = other
	}
	bytesWanted, events := e.count("bytes"), e.count("events")
	switch {
	case bytesWanted > 0:
		return []byte(`{"x":"` + strings.Repeat("x", bytesWanted-len(`{"x":""}`)) + `"}`), e.kind
	case events > 0:
		return []byte("[" + strings.Repeat("{},", events-1) + "{}]"), e.kind
	case value == nil:
		return nil, ""
	case e.kind == "multipart/form-data":
		var form bytes.Buffer
		w := multipart.NewWriter(&form)
		for name, part := range pairs(value) {
			file, err := w.CreateFormFile(name, name)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(file, part.Value)
		}
		w.Close()
		return form.Bytes(), w.FormDataContentType()
	case value.Kind == yaml.ScalarNode:
		return []byte(value.Value), e.kind
	default:
		return jsonOf(t, value), e.kind
	}
}

// secretOf is the secret of an API key of the examples: that of the kind that a route takes, "web" without a name.
func secretOf(kind, key string) string {
	secrets := map[string]string{"client": "js.", "server": "s2s.", "either": "js.", "server or admin": "s2s.", "admin": "admin."}
	prefix := secrets[kind]
	switch key {
	case "none":
		return ""
	case "wrong":
		return "no-such-secret"
	case "other":
		prefix, key = map[string]string{"client": "s2s.", "server": "js.", "server or admin": "js."}[kind], ""
	}
	switch {
	case prefix == "":
		return ""
	case key == "":
		key = "change-me"
	}
	return prefix + key
}

// authorize sends a secret in the way of a security scheme.
func (s *spec) authorize(t *testing.T, req *http.Request, query url.Values, scheme, secret string) {
	t.Helper()
	if secret == "" || scheme == "" {
		return
	}
	how := s.get(s.root, "components", "securitySchemes", scheme)
	name := text(member(how, "name"))
	switch text(member(how, "type")) + " " + text(member(how, "in")) + text(member(how, "scheme")) {
	case "apiKey query":
		query.Set(name, secret)
	case "apiKey header":
		req.Header.Set(name, secret)
	case "http basic":
		req.SetBasicAuth(secret, "")
	case "http bearer":
		req.Header.Set("Authorization", "Bearer "+secret)
	default:
		t.Fatalf("security scheme %s", scheme)
	}
}

// prepare does what must have been done before the request.
func (e *exchange) prepare(t *testing.T, address string) {
	t.Helper()
	before := member(e.with, "before")
	if before == nil {
		return
	}
	for _, post := range before.Content {
		secret := secretOf("server", text(member(post, "key")))
		if status, body := answer(t, "POST", "http://"+address+text(member(post, "path")), string(jsonOf(t, member(post, "body"))), "X-Auth-Token", secret); status != http.StatusOK {
			t.Fatalf("%s: before: %d %s", e, status, body)
		}
	}
}

// decoded is a JSON text as a value whose numbers are texts; a text that is none is itself.
func decoded(data []byte) any {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return string(data)
	}
	return v
}
