package sandbox

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// policy says which quota a call counts in.
type policy int

const (
	generalPolicy policy = iota // burst and daily
	searchPolicy                // 5 per second, and daily
	eventPolicy                 // its own
	openPolicy                  // none, and no access token: the identity provider's
)

// Scopes that routes need.
const (
	readContacts    = "crm.objects.contacts.read"
	writeContacts   = "crm.objects.contacts.write"
	readSchemas     = "crm.schemas.contacts.read"
	writeSchemas    = "crm.schemas.contacts.write"
	sendEvents      = "analytics.behavioral_events.send"
	eventDefinition = "behavioral_events.event_definitions.read_write"
)

// route is one operation. pattern is the path after version and object type, * standing for one part.
type route struct {
	method, pattern string
	name            string // for faults and counts
	scope           string
	policy          policy
	batch           bool // the body has inputs
	handle          func(*state, *call) answer
}

// form reports whether the body is a form, as the identity provider takes it; elsewhere it is JSON.
func (rt *route) form() bool { return rt.policy == openPolicy }

// secret reports whether the path ends with a token.
func (rt *route) secret() bool {
	return strings.HasPrefix(rt.pattern, "provider-v1/") && strings.HasSuffix(rt.pattern, "*")
}

// routes is the table of operations; of two that match the earlier one is meant.
var routes = []route{
	{"POST", "contacts/batch/upsert", "contacts/batch/upsert", writeContacts, generalPolicy, true, (*state).upsertContacts},
	{"POST", "contacts/batch/create", "contacts/batch/create", writeContacts, generalPolicy, true, (*state).createContacts},
	{"POST", "contacts/batch/update", "contacts/batch/update", writeContacts, generalPolicy, true, (*state).updateContacts},
	{"POST", "contacts/batch/read", "contacts/batch/read", readContacts, generalPolicy, true, (*state).readContacts},
	{"POST", "contacts/batch/archive", "contacts/batch/archive", writeContacts, generalPolicy, true, (*state).archiveContacts},
	{"POST", "contacts/search", "contacts/search", readContacts, searchPolicy, false, (*state).searchContacts},
	{"POST", "contacts", "contacts/create", writeContacts, generalPolicy, false, (*state).createContact},
	{"GET", "contacts", "contacts/list", readContacts, generalPolicy, false, (*state).listContacts},
	{"GET", "contacts/*", "contacts/read", readContacts, generalPolicy, false, (*state).readContact},
	{"PATCH", "contacts/*", "contacts/update", writeContacts, generalPolicy, false, (*state).updateContact},
	{"DELETE", "contacts/*", "contacts/archive", writeContacts, generalPolicy, false, (*state).archiveContact},

	{"POST", "properties/batch/create", "properties/batch/create", writeSchemas, generalPolicy, true, (*state).createProperties},
	{"POST", "properties/batch/read", "properties/batch/read", readSchemas, generalPolicy, true, (*state).readProperties},
	{"POST", "properties/batch/archive", "properties/batch/archive", writeSchemas, generalPolicy, true, (*state).archiveProperties},
	{"GET", "properties", "properties/list", readSchemas, generalPolicy, false, (*state).listProperties},
	{"POST", "properties", "properties/create", writeSchemas, generalPolicy, false, (*state).createProperty},
	{"GET", "properties/groups", "properties/groups/list", readSchemas, generalPolicy, false, (*state).listGroups},
	{"POST", "properties/groups", "properties/groups/create", writeSchemas, generalPolicy, false, (*state).createGroup},
	{"GET", "properties/*", "properties/read", readSchemas, generalPolicy, false, (*state).readProperty},
	{"PATCH", "properties/*", "properties/update", writeSchemas, generalPolicy, false, (*state).updateProperty},
	{"DELETE", "properties/*", "properties/archive", writeSchemas, generalPolicy, false, (*state).archiveProperty},

	{"POST", "events/send/batch", "events/send/batch", sendEvents, eventPolicy, true, (*state).sendEvents},
	{"POST", "events/send", "events/send", sendEvents, eventPolicy, false, (*state).sendEvent},

	{"GET", "definitions", "definitions/list", eventDefinition, generalPolicy, false, (*state).listDefinitions},
	{"POST", "definitions", "definitions/create", eventDefinition, generalPolicy, false, (*state).createDefinition},
	{"GET", "definitions/*", "definitions/read", eventDefinition, generalPolicy, false, (*state).readDefinition},
	{"DELETE", "definitions/*", "definitions/delete", eventDefinition, generalPolicy, false, (*state).deleteDefinition},
	{"POST", "definitions/*/property", "definitions/property/create", eventDefinition, generalPolicy, false, (*state).createEventProperty},

	{"GET", "account-info/details", "account-info", "", generalPolicy, false, (*state).accountInfo},
	{"POST", "oauth/private-apps/get/access-token-info", "token-info", "", generalPolicy, false, (*state).tokenInfo},
	{"DELETE", "appinstalls/external-install", "app-uninstall", "", generalPolicy, false, (*state).uninstallApp},

	{"GET", "authorize", "oauth/authorize", "", openPolicy, false, (*state).authorizePage},
	{"POST", "authorize", "oauth/authorize", "", openPolicy, false, (*state).authorizePage},
	{"GET", "authorize/*", "oauth/authorize", "", openPolicy, false, (*state).authorizePage},
	{"POST", "authorize/*", "oauth/authorize", "", openPolicy, false, (*state).authorizePage},
	{"POST", "provider/token", "oauth/token", "", openPolicy, false, (*state).oauthToken},
	{"POST", "provider/token/introspect", "oauth/introspect", "", openPolicy, false, (*state).introspect},
	{"POST", "provider/token/revoke", "oauth/revoke", "", openPolicy, false, (*state).revokeToken},
	{"POST", "provider-v1/token", "oauth/token", "", openPolicy, false, (*state).oauthToken},
	{"GET", "provider-v1/access-tokens/*", "oauth/access-tokens/read", "", openPolicy, false, (*state).readToken},
	{"GET", "provider-v1/refresh-tokens/*", "oauth/refresh-tokens/read", "", openPolicy, false, (*state).readToken},
	{"DELETE", "provider-v1/refresh-tokens/*", "oauth/refresh-tokens/delete", "", openPolicy, false, (*state).deleteToken},
}

// datedVersions are the API versions named by a date.
var datedVersions = []string{"2026-03", "2026-09"}

// resolve finds the route of an escaped path. Paths differ by API version in more than the version: see place.
func (c *call) resolve(escaped string) {
	parts := strings.Split(strings.Trim(escaped, "/"), "/")
	for i, p := range parts {
		if u, err := url.PathUnescape(p); err == nil {
			parts[i] = u
		}
	}
	var rest []string
	c.version, rest = place(parts)
	if rest == nil {
		return
	}
	known := false
	for i := range routes {
		args, ok := match(routes[i].pattern, rest)
		if !ok {
			continue
		}
		known = true
		if routes[i].method == c.method {
			c.route, c.args = &routes[i], args
			return
		}
	}
	if known {
		c.wrong = &apiError{status: http.StatusMethodNotAllowed, message: "HTTP 405 Method Not Allowed"}
	}
}

// place splits a path into its version and what the routes know it by; rest is nil for paths that HubSpot, or the sandbox, lacks.
func place(p []string) (version string, rest []string) {
	dated := func(i int) bool { return i < len(p) && slices.Contains(datedVersions, p[i]) }
	at := func(i int, names ...string) bool { return i < len(p) && slices.Contains(names, p[i]) }
	switch {
	case at(0, "crm") && at(1, "v3") && at(2, "objects", "properties"): // /crm/v3/objects/contacts
		return p[1], crmPlace(p[2], p[3:])
	case at(0, "crm") && at(1, "objects", "properties") && dated(2): // /crm/objects/2026-03/contacts
		return p[2], crmPlace(p[1], p[3:])
	case at(0, "crm") && dated(1) && at(2, "objects"): // /crm/2026-09/objects/contacts also routes
		return p[1], crmPlace(p[2], p[3:])
	case at(0, "events") && (at(1, "v3") || dated(1)): // /events/v3/send
		return p[1], eventPlace(p[2:])
	case at(0, "events") && at(1, "custom") && dated(2): // /events/custom/2026-03/send: sources disagree, so both
		return p[2], eventPlace(p[3:])
	case at(0, "account-info") && (at(1, "v3") || dated(1)):
		return p[1], append([]string{"account-info"}, p[2:]...)
	case at(0, "appinstalls") && (at(1, "v3") || dated(1)):
		return p[1], append([]string{"appinstalls"}, p[2:]...)
	case at(0, "oauth"):
		return oauthPlace(p)
	}
	return "", nil
}

// oauthPlace maps what begins with oauth: the consent page, and three generations of endpoints.
func oauthPlace(p []string) (version string, rest []string) {
	switch {
	case len(p) == 2 && p[1] == "authorize":
		return "app", []string{"authorize"}
	case len(p) == 3 && p[2] == "authorize":
		return "app", []string{"authorize", p[1]}
	case len(p) < 3:
		return "", nil
	case p[1] == "v1":
		return p[1], append([]string{"provider-v1"}, p[2:]...)
	case p[1] == "v2":
		return p[1], append([]string{"oauth"}, p[2:]...)
	case slices.Contains(datedVersions, p[1]):
		return p[1], append([]string{"provider"}, p[2:]...)
	}
	return "", nil
}

// crmPlace maps objects/contacts and properties/contacts. Contacts are also called contact, CONTACT and 0-1.
func crmPlace(resource string, rest []string) []string {
	if len(rest) == 0 || !slices.Contains([]string{"contacts", "contact", "0-1"}, strings.ToLower(rest[0])) {
		return nil
	}
	if resource == "objects" {
		resource = "contacts"
	}
	return append([]string{resource}, rest[1:]...)
}

func eventPlace(rest []string) []string {
	if len(rest) > 0 && rest[0] == "event-definitions" {
		return append([]string{"definitions"}, rest[1:]...)
	}
	return append([]string{"events"}, rest...)
}

// match compares path parts with a pattern and returns what * stood for.
func match(pattern string, parts []string) (args []string, ok bool) {
	for part := range strings.SplitSeq(pattern, "/") {
		if len(parts) == 0 || part != "*" && part != parts[0] {
			return nil, false
		}
		if part == "*" {
			args = append(args, parts[0])
		}
		parts = parts[1:]
	}
	return args, len(parts) == 0
}
