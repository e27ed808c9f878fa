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
	host         string
	query        url.Values
	header       http.Header
	body         []byte

	route   *route   // nil: no such path
	args    []string // what the route's * stood for
	version string   // v3, 2026-03, ...
	wrong   *apiError

	client string // client id of the app whose access token it bears; "" for other tokens

	number uint64 // in order of arrival, from 1
	faulty bool   // a fault acts on it

	form   url.Values // of a route with a form
	json   gjson.Result
	items  []gjson.Result // of a batch
	inputs []input        // of a batch of contacts
	count  int            // of records, events or definitions, for Calls
}

// newCall routes and parses r. It keeps body.
func newCall(r *http.Request, body []byte) *call {
	c := &call{method: r.Method, path: r.URL.Path, host: r.Host, query: r.URL.Query(), header: r.Header, body: body}
	c.resolve(r.URL.EscapedPath())
	if c.route != nil && c.route.secret() { // lists of calls show it
		c.path = strings.TrimSuffix(c.path, c.args[0]) + "*"
	}
	if c.route != nil && c.method != http.MethodGet && c.method != http.MethodDelete {
		c.parse()
	}
	return c
}

// parse reads the body; what is wrong with it is answered after the checks that come first.
func (c *call) parse() {
	wanted := "application/json"
	if c.route.form() {
		wanted = "application/x-www-form-urlencoded"
	}
	if ct, _, _ := strings.Cut(c.header.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(ct), wanted) {
		c.wrong = &apiError{status: http.StatusUnsupportedMediaType, message: "Unsupported content type " + ct}
		return
	}
	if c.route.form() {
		var err error
		if c.form, err = url.ParseQuery(string(c.body)); err != nil {
			c.wrong = badInput("Invalid form")
		}
		return
	}
	if !shallow(c.body) || !gjson.ValidBytes(c.body) {
		c.wrong = badInput("Invalid input JSON on line 1, column 1")
		return
	}
	c.json = gjson.ParseBytes(c.body)
	if !c.json.IsObject() {
		c.wrong = badInput("Invalid input JSON on line 1, column 1: expected an object")
		return
	}
	c.count = 1
	if c.route.batch {
		c.parseBatch()
	}
}

// parseBatch reads the inputs. A body without any is a batch of none: HubSpot answers that it is complete.
func (c *call) parseBatch() {
	list := c.json.Get("inputs")
	if list.Exists() && !list.IsArray() {
		c.wrong = badInput("Invalid input JSON on line 1, column 1: inputs must be a list")
		return
	}
	c.items = list.Array()
	c.count = len(c.items)
	for _, item := range c.items {
		if !item.IsObject() {
			c.wrong = badInput("Invalid input JSON on line 1, column 1: inputs must be objects")
			return
		}
	}
	if strings.HasPrefix(c.route.name, "contacts/") {
		c.inputs, c.wrong = parseInputs(c.items, c.json.Get("idProperty").Str)
	}
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

// endpoint names the call for faults and counts.
func (c *call) endpoint() string {
	if c.route == nil {
		return "unknown"
	}
	return c.route.name
}
