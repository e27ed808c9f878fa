package hubspot

import (
	"context"
	"fmt"
	"testing"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

// benchBatch is 100 identifies of 100 people, about half a KiB each.
func benchBatch() []destinations.Entry {
	batch := make([]destinations.Entry, maxContacts)
	for i := range batch {
		email := fmt.Sprintf("person%d@example.com", i)
		batch[i] = destinations.Entry{
			Name: destinations.OutputName{Offset: uint64(i)}, Plan: destinations.Plan{Lane: laneContacts, Key: email, ID: email}, Attempt: 1,
			Event: &event.Event{ID: fmt.Sprint(i), APIKey: "k", JSON: fmt.Appendf(nil, `{"event_type":"user_identify","event_id":"","ids":{},`+
				`"utc_time":"2026-11-21T02:51:54.320000Z","local_tz_offset":0,"utm":{},"click_id":{},"src":"jitsu","api_key":"k",`+
				`"url":"https://app.example.com/settings?tab=profile","page_title":"Settings","user_agent":"Mozilla/5.0 (X11; Linux x86_64)",`+
				`"user":{"anonymous_id":"axjhfluaxe","id":"%d","email":"%s","firstname":"John","lastname":"Doe","company":"Acme",`+
				`"phone":"+1 555 0100","city":"Paris","jobtitle":"CTO","numemployees":"1-5","zip":"01234","unknown prop":"x"}}`, i, email)},
		}
	}
	return batch
}

func batchBytes(batch []destinations.Entry) (n int64) {
	for i := range batch {
		n += int64(len(batch[i].Event.JSON))
	}
	return n
}

func benchRig(b *testing.B) *rig {
	r := newRig(b, sandbox.Options{}, "")
	mustDeliver(b, r.run(track("x"), track("x"))) // loads what there is to load
	return r
}

func BenchmarkMapUser(b *testing.B) {
	d := benchRig(b).dest
	batch := benchBatch()[:1]
	s := &contactSend{d: d, batch: batch, schema: d.account.schema.get()}
	ev := batch[0].Event
	b.SetBytes(int64(len(ev.JSON)))
	b.ReportAllocs()
	for b.Loop() {
		w := write{id: "a@b.co"}
		s.add(&w, 0)
	}
}

func BenchmarkUpsertBody(b *testing.B) {
	d := benchRig(b).dest
	writes, _, _ := (&contactSend{d: d, batch: benchBatch(), schema: d.account.schema.get()}).merge()
	body := appendBatch(nil, emailProperty, writes)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		body = appendBatch(body[:0], emailProperty, writes)
	}
}

func BenchmarkParseUpsert(b *testing.B) {
	r := benchRig(b)
	rec := &answerRecorder{RoundTripper: r.env.Transport}
	r.env.Transport = rec
	r.reload()
	r.send(benchBatch())
	b.SetBytes(int64(len(rec.last)))
	b.ReportAllocs()
	for b.Loop() {
		if a := parseUpsert(rec.last, maxContacts); a.results != maxContacts {
			b.Fatalf("%d results", a.results)
		}
	}
}

// BenchmarkSendContacts is a whole Send of 100 contacts; the sandbox, which answers in memory, is in it.
func BenchmarkSendContacts(b *testing.B) {
	r := benchRig(b)
	batch := benchBatch()
	b.SetBytes(batchBytes(batch))
	b.ReportAllocs()
	for b.Loop() {
		for _, o := range r.send(batch) {
			if o.Err != nil {
				b.Fatal(o.Err)
			}
		}
	}
	b.ReportMetric(float64(b.N*len(batch))/b.Elapsed().Seconds(), "contacts/s")
}

// BenchmarkSendContactsAlone is the same with a transport that answers at once: what is ours.
func BenchmarkSendContactsAlone(b *testing.B) {
	r := benchRig(b)
	rec := &answerRecorder{RoundTripper: r.env.Transport}
	r.env.Transport = rec
	r.reload()
	batch := benchBatch()
	r.send(batch)
	rec.repeat = true
	b.SetBytes(batchBytes(batch))
	b.ReportAllocs()
	for b.Loop() {
		for _, o := range r.send(batch) {
			if o.Err != nil {
				b.Fatal(o.Err)
			}
		}
	}
	b.ReportMetric(float64(b.N*len(batch))/b.Elapsed().Seconds(), "contacts/s")
}

func BenchmarkSendEvents(b *testing.B) {
	r := benchRig(b)
	batch := make([]destinations.Entry, maxEvents)
	for i := range batch {
		batch[i] = destinations.Entry{
			Name: destinations.OutputName{Offset: uint64(i)}, Plan: destinations.Plan{Lane: laneEvents, Key: "a@b.co", ID: "a@b.co"}, Attempt: 1,
			Event: &event.Event{ID: fmt.Sprint(i), APIKey: "k", Server: true, JSON: []byte(`{"event_type":"x","plan":"pro","seats":3,` +
				`"utc_time":"2026-11-21T02:51:54.320000Z","src":"jitsu","api_key":"k","url":"https://app.example.com/settings?tab=profile",` +
				`"page_title":"Settings","user_agent":"Mozilla/5.0 (X11; Linux x86_64)","user":{"email":"a@b.co","firstname":"John","id":"1"}}`)},
		}
	}
	r.send(batch)
	b.SetBytes(batchBytes(batch))
	b.ReportAllocs()
	for b.Loop() {
		for _, o := range r.send(batch) {
			if o.Err != nil {
				b.Fatal(o.Err)
			}
		}
	}
	b.ReportMetric(float64(b.N*len(batch))/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkPlan(b *testing.B) {
	d := benchRig(b).dest
	ev := benchBatch()[0].Event
	b.SetBytes(int64(len(ev.JSON)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Plan(ev); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAcquire is a permit of a window that is as full as that of events can be, without the wait for it.
func BenchmarkAcquire(b *testing.B) {
	w := newWindow(eventsPolicy, 1<<50, time.Hour, nil)
	for range eventsPerSecond {
		w.ended = append(w.ended, time.Now().Add(time.Hour))
	}
	b.ReportAllocs()
	for b.Loop() {
		p, err := w.acquire(context.Background(), terms{share: 1, patient: true})
		if err != nil {
			b.Fatal(err)
		}
		p.Release()
	}
}
