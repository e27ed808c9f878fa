package ingest

import (
	"bytes"
	"crypto/md5"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"eventrouter/docs"
	"eventrouter/pkg/config"

	"github.com/google/go-cmp/cmp"
)

// eventCase is a request to Jitsu and the event that came of it.
type eventCase struct {
	Name, ReqUrn, ReqURN, XAuthToken string
	ReqBody, ExpectedJSON            json.RawMessage
	ExpectedErrMsg                   string
	ExpectedHTTPCode                 int
	ExpectedDeleteCookie             bool
	CookieAnonymIDValue              string // what the browser sends
	ExpectedAnonymID                 string // what it is told to send from now on
	EnrichWithHTTPContext            bool
	GeoData                          struct{ Country string }
}

// edit is what is otherwise here in the event of a case, by path with dots; nil: it is not there.
type edit map[string]any

// eventDifferences are the cases of which the events are not Jitsu's on purpose. The reasons are in the table of the documentation.
var eventDifferences = map[string]map[string]edit{
	"upstream-tests.incoming_event": {
		"Unauthorized c2s endpoint":                nil,
		"Unauthorized c2s endpoint with s2s token": nil,
		"S2S API 1.0 event consuming test":         {"__HTTP_CONTEXT__.headers.x-auth-token": nil},
		"S2S API 2.0 event consuming test":         {"__HTTP_CONTEXT__.headers.x-auth-token": nil},
		"Mobile API single event":                  {"__HTTP_CONTEXT__.headers.x-auth-token": nil},
		"Mobile API events array":                  {"__HTTP_CONTEXT__.headers.x-auth-token": nil},
		"Mobile API events with template":          {"__HTTP_CONTEXT__.headers.x-auth-token": nil},
		"C2S event 2.0 consuming test":             {"user_agent": ownUserAgent},
		"Cookie policy strict":                     {"user_agent": ownUserAgent},
		"IP policy strict":                         {"user_agent": ownUserAgent, "__HTTP_CONTEXT__.headers.x-forwarded-for": nil, "user.hashed_anonymous_id": coarseHash("95.82.232.1")},
		"Cookie and ip policies strict":            {"user_agent": ownUserAgent, "__HTTP_CONTEXT__.headers.x-forwarded-for": nil, "user.hashed_anonymous_id": coarseHash("95.82.232.1"), "user.anonymous_id": coarseHash("95.82.232.1")},
		"Cookie and ip policies comply":            {"user_agent": ownUserAgent, "__HTTP_CONTEXT__.headers.x-forwarded-for": nil, "user.hashed_anonymous_id": coarseHash("95.82.232.1"), "user.anonymous_id": coarseHash("95.82.232.1")},
		"Segment function track event":             {}, // asCanonical
		"Segment function compat track event":      {},
		"Segment function identify event":          {},
		"Segment function compat identify event":   {},
		"Segment function page event":              {},
		"Segment function compat page event":       {},
	},
	"upstream-tests.segment_api": {
		"Segment API 2.0 ok":    {},
		"Segment API compat ok": {},
	},
	"upstream-tests.pixel": {
		"Event without context data and anonym id":               {"token": nil},
		"Event without context data and anonym id compat":        {"token": nil, "compat": nil},
		"Event with context data and anonym id in body":          {"token": nil, "compat": nil, "__HTTP_CONTEXT__.headers.cookie": nil},
		"Event with context data and anonym id compat":           {"token": nil, "compat": nil},
		"Event without context data and anonym id cookie strict": {"token": nil, "cookie_policy": nil},
	},
	"upstream-tests.ip_cookie_policy": {
		"Cookie policy comply UK":                       {"user_agent": ownUserAgent, "__HTTP_CONTEXT__.headers.x-forwarded-for": nil, "user.hashed_anonymous_id": coarseHash("10.10.10.1"), "user.anonymous_id": coarseHash("10.10.10.1")},
		"Cookie policy comply EU":                       {"user_agent": ownUserAgent, "__HTTP_CONTEXT__.headers.x-forwarded-for": nil, "user.hashed_anonymous_id": coarseHash("10.10.10.1"), "user.anonymous_id": coarseHash("10.10.10.1")},
		"Cookie policy comply USA":                      {"user_agent": ownUserAgent},
		"Cookie policy comply RUS":                      {"user_agent": ownUserAgent},
		"Cookie policy not comply because of source_ip": {"user_agent": ownUserAgent, "source_ip": "20.20.20.1", "user.hashed_anonymous_id": coarseHash("20.20.20.1"), "user.anonymous_id": coarseHash("20.20.20.1")},
	},
}

// coarseHash is the visitor's hash where the policy leaves no more of the address.
func coarseHash(addr string) string {
	return fmt.Sprintf("%x", md5.Sum([]byte(addr+"Go-http-client/1.1")))
}

// ownUserAgent is what the client of the cases says of itself, in contrast to its header.
const ownUserAgent = "Mozilla/5.0 (Macintosh; Intel Mac OS X 11_2_3) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/90.0.4430.0 Safari/537.36"

// eventOptions are the keys of these cases: their ids are their secrets, which Jitsu shows in events.
func eventOptions(log Log, c eventCase) Options {
	o := testOptions(log)
	o.APIKeys = []config.APIKey{{ID: "c2stoken", ClientSecret: "c2stoken"}, {ID: "s2stoken", ServerSecret: "s2stoken"}}
	o.Destinations = []config.Destination{{Name: "hub", Type: "hubspot"}}
	o.Server.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	if c.GeoData.Country != "" {
		o.Place = func(addr netip.Addr) (country string, union, known bool) {
			return c.GeoData.Country, false, addr == netip.MustParseAddr("10.10.10.10")
		}
	}
	return o
}

func TestReferenceEvents(t *testing.T) {
	for group, forwarded := range map[string]string{
		"upstream-tests.incoming_event":   "95.82.232.185",
		"upstream-tests.ip_cookie_policy": "10.10.10.10",
		"upstream-tests.segment_api":      "95.82.232.185",
	} {
		checkListed(t, group)
		for _, c := range referenceCases[eventCase](t, group) {
			t.Run(c.Name, func(t *testing.T) {
				log := &memoryLog{}
				o := eventOptions(log, c)
				o.Server.HTTPContext = group != "upstream-tests.segment_api"
				o.Now = func() time.Time { return frozen }
				userAgent := "Go-http-client/1.1"
				if group == "upstream-tests.segment_api" {
					userAgent = "analytics-go (version: 3.0.0)"
				}
				headers := []string{"X-Forwarded-For", forwarded, "User-Agent", userAgent, "Accept-Encoding", "gzip"}
				if c.XAuthToken != "" {
					headers = append(headers, "X-Auth-Token", c.XAuthToken)
				}
				path, want := c.ReqUrn+c.ReqURN, eventsIn(t, c.ExpectedJSON)
				got := send(t, "POST", start(t, o)+path, eventBody(t, c.ReqBody, want), headers...)
				_, different := eventDifferences[group][c.Name]
				if c.ExpectedErrMsg != "" {
					told := message(got.body)
					if got.status != c.ExpectedHTTPCode || (told == message(c.ExpectedErrMsg)) == different || !strings.HasPrefix(message(c.ExpectedErrMsg), told) {
						t.Errorf("got %d %s, Jitsu answers %d %s", got.status, got.body, c.ExpectedHTTPCode, c.ExpectedErrMsg)
					}
					return
				}
				answer := string(bodyOK)
				if c.ExpectedDeleteCookie {
					answer = string(bodyNoCookie)
				}
				if got.status != 200 || got.body != answer {
					t.Errorf("got %d %s, want %s", got.status, got.body, answer)
				}
				views := viewsOf(t, log, "")
				takeMessages(t, views, c.ReqBody)
				compareEvents(t, group, c.Name, want, views)
			})
		}
	}
}

func TestReferencePixel(t *testing.T) {
	const group = "upstream-tests.pixel"
	checkListed(t, group)
	for _, c := range referenceCases[eventCase](t, group) {
		t.Run(c.Name, func(t *testing.T) {
			log := &memoryLog{}
			o := eventOptions(log, c)
			o.Server.HTTPContext = c.EnrichWithHTTPContext
			headers := []string{
				"Referer", "https://jitsu.com/docs?search=true", "Accept-Encoding", "gzip",
				"User-Agent", "Mozilla/5.0 (iPod; CPU iPhone OS 12_0 like macOS) AppleWebKit/602.1.50 (KHTML, like Gecko) Version/12.0 Mobile/14A5335d Safari/602.1.50",
			}
			if c.CookieAnonymIDValue != "" {
				headers = append(headers, "Cookie", "__eventn_id="+c.CookieAnonymIDValue)
			}
			o.Now = func() time.Time { return frozen }
			got := send(t, "GET", start(t, o)+c.ReqURN, nil, headers...)
			if got.status != 200 || got.body != string(pixelImage) || got.header.Get("Content-Type") != "image/gif" {
				t.Errorf("got %d %q", got.status, got.body)
			}
			id, _, _ := strings.Cut(strings.TrimPrefix(got.header.Get("Set-Cookie"), "__eventn_id="), ";")
			if (id != "") != (c.ExpectedAnonymID != "") {
				t.Errorf("got cookie %q, want a new one: %v", got.header.Get("Set-Cookie"), c.ExpectedAnonymID != "")
			}
			compareEvents(t, group, c.Name, eventsIn(t, c.ExpectedJSON), viewsOf(t, log, id))
		})
	}
}

// frozen is the time of the cases.
var frozen = time.Date(2020, 6, 16, 23, 0, 0, 0, time.UTC)

// checkListed holds eventDifferences to the documentation.
func checkListed(t *testing.T, group string) {
	t.Helper()
	listed := slices.Sorted(maps.Keys(docs.Differences(group)))
	if diff := cmp.Diff(listed, slices.Sorted(maps.Keys(eventDifferences[group]))); diff != "" {
		t.Errorf("%s: the cases that differ from Jitsu's are not those that the documentation lists (-listed +here):\n%s", group, diff)
	}
}

// eventsIn reads one event or many.
func eventsIn(t *testing.T, data json.RawMessage) (events []any) {
	t.Helper()
	if len(data) == 0 {
		return nil
	}
	switch v := decoded(t, data).(type) {
	case []any:
		return v
	default:
		return []any{v}
	}
}

// eventBody is the body of a case, with blanks behind it so that it has the length that the case's event tells of.
func eventBody(t *testing.T, raw json.RawMessage, want []any) []byte {
	t.Helper()
	var text struct {
		Text string `json:"$text"`
	}
	if json.Unmarshal(raw, &text) == nil && text.Text != "" {
		return []byte(text.Text)
	}
	length := len(raw)
	if len(want) > 0 && want[0].(map[string]any)["__HTTP_CONTEXT__"] != nil {
		headers := want[0].(map[string]any)["__HTTP_CONTEXT__"].(map[string]any)["headers"].(map[string]any)
		length, _ = strconv.Atoi(headers["content-length"].([]any)[0].(string))
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil || compact.Len() > length {
		t.Fatalf("%d bytes of %d, %v", compact.Len(), length, err)
	}
	return append(compact.Bytes(), bytes.Repeat([]byte(" "), length-compact.Len())...)
}

var madeID = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// viewsOf are the stored events as filters see them, with Jitsu's mocked id in place of ids that were made, also of the visitor's.
func viewsOf(t *testing.T, log *memoryLog, visitor string) (views []any) {
	t.Helper()
	for _, ev := range log.take(t) {
		ev.Received = frozen
		view := string(ev.AppendView(nil))
		if madeID.MatchString(ev.ID) {
			view = strings.ReplaceAll(view, ev.ID, "mockeduuid")
		}
		if visitor != "" {
			view = strings.ReplaceAll(view, `"`+visitor+`"`, `"mockeduuid"`)
		}
		views = append(views, decoded(t, []byte(view)))
	}
	return views
}

// takeMessages takes the kept messages of Segment's protocol out of events that have them, and compares them with those that were sent.
func takeMessages(t *testing.T, views []any, body json.RawMessage) {
	t.Helper()
	sent := []any{decode(body)}
	if whole, ok := sent[0].(map[string]any); ok && whole["batch"] != nil {
		sent = whole["batch"].([]any)
	}
	for i, ev := range views {
		if kept, ok := ev.(map[string]any)["segment"]; ok {
			if diff := cmp.Diff(sent[i], kept); diff != "" {
				t.Errorf("message %d (-sent +kept):\n%s", i, diff)
			}
			delete(ev.(map[string]any), "segment")
		}
	}
}

// compareEvents compares with what Jitsu made, as far as that is not listed as a difference.
func compareEvents(t *testing.T, group, name string, jitsu, got []any) {
	t.Helper()
	edits, different := eventDifferences[group][name]
	same := cmp.Diff(jitsu, got) == ""
	if different && same {
		t.Errorf("listed as a difference, but the event is Jitsu's")
	}
	for _, ev := range jitsu {
		if strings.HasPrefix(name, "Segment") {
			asCanonical(ev.(map[string]any))
		}
		for path, value := range edits {
			change(ev.(map[string]any), strings.Split(path, "."), value)
		}
	}
	if diff := cmp.Diff(jitsu, got); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
}

// asCanonical does to an event that Jitsu made of Segment's message what is otherwise here on purpose. An event that has its title at the top level was none
// of Segment's messages.
func asCanonical(ev map[string]any) {
	context := ev
	if inner, ok := ev["eventn_ctx"].(map[string]any); ok {
		context = inner
	}
	if ev["utc_time"] = ev["timestamp"]; ev["originalTimestamp"] == nil {
		ev["utc_time"] = "2020-06-16T23:00:00.000Z" // sent and received then
	}
	if ev["title"] != nil {
		return
	}
	if doc, ok := context["doc"].(map[string]any); ok {
		context["url"] = doc["url"]
	}
	if context["local_tz_offset"] != nil {
		delete(context, "local_tz_offset")
		ev["timezone"] = "UTC"
	}
	switch ev["event_type"] {
	case "identify":
		ev["event_type"] = "user_identify"
	case "track":
		ev["event_type"] = ev["event"]
	case "page":
		ev["event_type"] = "pageview"
	case "alias":
		ev["previous_id"] = ev["previousId"]
	case "group":
		ev["group_id"] = ev["groupId"]
		ev["group"] = map[string]any{"email": "ned@starkinc.com", "firstName": "Ned", "lastName": "Stark", "role": "the Lord of Winterfell"}
	}
}

func change(ev map[string]any, path []string, value any) {
	for ; len(path) > 1; path = path[1:] {
		inner, ok := ev[path[0]].(map[string]any)
		if !ok {
			return
		}
		ev = inner
	}
	if ev[path[0]] = value; value == nil {
		delete(ev, path[0])
	}
}
