package main

import (
	_ "embed"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/tidwall/sjson"
)

// Events as Jitsu's SDK 3.1.5 really sends them, from a browser and from a server; the demo fills in persons.
var (
	//go:embed demo/browser.json
	browserEvent string
	//go:embed demo/server.json
	serverEvent string
)

const (
	demoClientKey = "js.demo"
	demoServerKey = "s2s.demo"
)

// post is one request: what an SDK sends at once.
type post struct {
	path string
	body string
}

// journey is what one visitor does, in order.
type journey []post

// expectation is what must be in HubSpot at the end, worked out from the stream alone.
type expectation struct {
	contacts   map[string]map[string]string // e-mail: properties that must hold these values
	events     map[string]int               // by event type
	filtered   int
	skipped    int
	duplicates int
	stripped   map[string]int // by property
	posted     int
}

var (
	firstNames = strings.Fields("Ada Grace Alan Edsger Barbara Donald Radia Ken Frances Niklaus Margaret Dennis Katherine Tony Hedy Leslie Anita Vint Joan Claude")
	lastNames  = strings.Fields("Lovelace Hopper Turing Dijkstra Liskov Knuth Perlman Thompson Allen Wirth Hamilton Ritchie Johnson Hoare Lamarr Lamport Borg Cerf Clarke Shannon")
	jobTitles  = []string{"CTO", "Engineer", "Head of Growth", "Founder"}
	plans      = []string{"free", "pro", "enterprise"}
)

// demoStream makes the journeys of n persons and of some visitors who never say who they are. The same n gives the same stream but for its times.
func demoStream(n int, now time.Time) ([]journey, expectation) {
	s := &stream{
		rnd: rand.New(rand.NewPCG(1, 2)), now: now,
		want: expectation{contacts: map[string]map[string]string{}, events: map[string]int{}, stripped: map[string]int{}},
	}
	var all []journey
	for i := range n {
		all = append(all, s.person(i))
		if i%5 == 0 {
			all = append(all, s.stranger(i))
		}
	}
	return all, s.want
}

type stream struct {
	rnd  *rand.Rand
	now  time.Time
	want expectation
}

// edit sets values by path in an event.
func edit(event string, pathsAndValues ...any) string {
	for i := 0; i < len(pathsAndValues); i += 2 {
		var err error
		if event, err = sjson.Set(event, pathsAndValues[i].(string), pathsAndValues[i+1]); err != nil {
			panic(fmt.Sprintf("BUG: demo event: %v", err))
		}
	}
	return event
}

// at stamps an event with the next moment of the stream.
func (s *stream) at(event string) string {
	s.now = s.now.Add(time.Millisecond)
	return edit(event, "utc_time", s.now.UTC().Format("2006-01-02T15:04:05.000000Z"))
}

func (s *stream) post(path string, events ...string) post {
	s.want.posted += len(events)
	return post{path, "[" + strings.Join(events, ",") + "]"}
}

// segment is a message as Segment's libraries for servers send it, in a batch of one.
func (s *stream) segment(kind, user, event string, properties map[string]any) post {
	s.want.posted++
	s.now = s.now.Add(time.Millisecond)
	message := map[string]any{
		"type": kind, "userId": user, "messageId": fmt.Sprintf("segment-%d", s.want.posted), "timestamp": s.now.UTC().Format(time.RFC3339Nano),
	}
	if kind == "identify" {
		message["traits"] = properties
	} else {
		message["event"], message["properties"] = event, properties
	}
	return post{segmentPath, edit("{}", "batch.0", message, "writeKey", demoServerKey)}
}

const (
	segmentPath = "/v1/batch"
	browserPath = "/api/v1/event?token=" + demoClientKey
	serverPath  = "/api/v1/s2s/event?token=" + demoServerKey
)

// person visits, signs up, is looked after by the shop's server, buys and comes back. For every fourth the shop's server uses Segment's library.
func (s *stream) person(i int) journey {
	first, last := firstNames[i%len(firstNames)], lastNames[(i/len(firstNames)+i)%len(lastNames)]
	email := strings.ToLower(fmt.Sprintf("%s.%s+%d@example.com", first, last, i))
	id, anonymous := fmt.Sprintf("u%d", i), fmt.Sprintf("anon%06d", i)
	plan := plans[s.rnd.IntN(len(plans))]
	var j journey

	visit := edit(browserEvent, "user.anonymous_id", anonymous)
	known := edit(visit, "user.id", id, "user.email", email, "user.firstname", first)
	identified := edit(known, "event_type", "user_identify", "user.lastname", last, "user.Job Title", jobTitles[i%len(jobTitles)],
		"user.company", "Example "+last, "user.favourite_color", "green", "user.createdate", "2020-01-01")
	signup := edit(known, "event_type", "signup", "plan", plan, "conversion.revenue", 9.5, "conversion.currency", "USD")
	queue := s.post(browserPath, s.at(visit), s.at(identified), s.at(signup))
	j = append(j, queue)
	s.want.skipped++ // the first page view came before anybody knew who it was
	s.want.events["signup"]++
	s.want.stripped["favourite_color"]++
	s.want.stripped["createdate"]++
	if i%10 == 0 { // the answer was lost on its way: the SDK sends its whole queue again
		j = append(j, queue)
		s.want.posted += 3
		s.want.duplicates += 3
	}

	j = append(j, s.post(browserPath, s.at(edit(known, "url", "https://shop.example.com/docs", "doc_path", "/docs", "page_title", "Docs"))))
	s.want.events["pageview"]++

	server := edit(serverEvent, "user.id", id)
	for range s.rnd.IntN(4) {
		j = append(j, s.post(serverPath, s.at(edit(server, "event_type", "heartbeat"))))
		s.want.filtered++
	}
	for n := range 1 + s.rnd.IntN(3) { // known by user id alone: the router remembers the e-mail
		if i%4 == 3 {
			j = append(j, s.segment("track", id, "purchase", map[string]any{"revenue": 10 * (n + 1), "product": "Widget"}))
		} else {
			j = append(j, s.post(serverPath, s.at(edit(server, "event_type", "purchase", "revenue", 10*(n+1), "product", "Widget"))))
		}
		s.want.events["purchase"]++
		if n == 2 { // 30: the transform makes a second event
			s.want.events["large_purchase"]++
		}
	}
	phone := fmt.Sprintf("+1 555 %04d", i)
	for _, plan = range []string{plans[s.rnd.IntN(len(plans))], plans[s.rnd.IntN(len(plans))]} {
		if i%4 == 3 {
			j = append(j, s.segment("identify", id, "", map[string]any{"email": email, "plan": plan, "phone": phone, "score": i}))
			continue
		}
		update := edit(server, "event_type", "user_identify", "user.email", email, "user.plan", plan, "user.phone", phone, "user.score", i)
		j = append(j, s.post(serverPath, s.at(update)))
	}
	s.want.contacts[email] = map[string]string{
		"firstname": first, "lastname": last, "job_title": jobTitles[i%len(jobTitles)], "company": "Example " + last, "plan": plan, "phone": phone,
		"score": fmt.Sprint(i),
	}
	return j
}

// stranger looks at two pages and leaves.
func (s *stream) stranger(i int) journey {
	visit := edit(browserEvent, "user.anonymous_id", fmt.Sprintf("stranger%d", i))
	s.want.skipped += 2
	return journey{s.post(browserPath, s.at(visit)), s.post(browserPath, s.at(edit(visit, "doc_path", "/about")))}
}
