package sandbox

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/tidwall/gjson"
)

// maxDepth bounds the nesting of bodies: gjson's validation recurses.
const maxDepth = 32

// call is one request, routed and parsed; it needs no lock.
type call struct {
	method, path string
	query        url.Values
	header       http.Header
	body         []byte

	route   *route   // nil: no such path
	args    []string // what the route's * stood for
	version string   // v3, 2026-03, ...
	wrong   *apiError

	json   gjson.Result
	inputs []input // of a contact batch
	listed bool    // the body has inputs
}

// newCall routes and parses r. It keeps body.
func newCall(r *http.Request, body []byte) *call {
	c := &call{method: r.Method, path: r.URL.Path, query: r.URL.Query(), header: r.Header, body: body}
	c.resolve(r.URL.EscapedPath())
	if c.route == nil || c.method == http.MethodGet || c.method == http.MethodDelete {
		return c
	}
	if ct, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(ct), "application/json") {
		c.wrong = &apiError{status: http.StatusUnsupportedMediaType, message: "Unsupported content type " + ct}
		return c
	}
	if !shallow(body) || !gjson.ValidBytes(body) {
		c.wrong = badInput("Invalid input JSON on line 1, column 1")
		return c
	}
	c.json = gjson.ParseBytes(body)
	if !c.json.IsObject() {
		c.wrong = badInput("Invalid input JSON on line 1, column 1: expected an object")
		return c
	}
	if c.route.batch {
		c.inputs, c.listed, c.wrong = parseInputs(c.json)
	}
	return c
}

// shallow reports whether body nests at most maxDepth deep.
func shallow(body []byte) bool {
	depth, inString := 0, false
	for i := 0; i < len(body); i++ {
		switch b := body[i]; {
		case inString && b == '\\':
			i++
		case b == '"':
			inString = !inString
		case inString:
		case b == '{' || b == '[':
			if depth++; depth > maxDepth {
				return false
			}
		case b == '}' || b == ']':
			depth--
		}
	}
	return true
}

// inputCount is what Calls report: how many records, events or properties the call carries.
func (c *call) inputCount() int {
	if list := c.json.Get("inputs"); list.IsArray() {
		if c.listed {
			return len(c.inputs)
		}
		return len(list.Array())
	}
	if c.json.Exists() && !strings.Contains(c.endpoint(), "batch") {
		return 1
	}
	return 0
}

// endpoint names the call for faults and counts.
func (c *call) endpoint() string {
	if c.route == nil {
		return "unknown"
	}
	return c.route.name
}
