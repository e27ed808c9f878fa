package sandbox

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// upsertBody has n inputs of seven properties, as a router sends them.
func upsertBody(n, offset int) string {
	var b strings.Builder
	b.WriteString(`{"inputs":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"idProperty":"email","id":"user%d@example.com","objectWriteTraceId":"t-%d","properties":{"email":"user%d@example.com",`+
			`"firstname":"Jon","lastname":"Doe %d","company":"Example Ltd","phone":"+49 30 1234567","city":"Berlin","jobtitle":"Engineer"}}`,
			offset+i, i, offset+i, i)
	}
	b.WriteString(`]}`)
	return b.String()
}

// BenchmarkUpsert measures the handler alone, batches of 100; the aim is 100,000 contacts per second and core.
func BenchmarkUpsert(b *testing.B) {
	for _, known := range []bool{false, true} {
		b.Run(fmt.Sprintf("known=%t", known), func(b *testing.B) {
			s := New(Options{})
			bodies := make([]string, 100)
			size := 0
			for i := range bodies {
				bodies[i] = upsertBody(100, i*100)
				size += len(bodies[i])
			}
			b.SetBytes(int64(size / len(bodies)))
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if !known && i%len(bodies) == 0 {
					s.Reset()
				}
				r := httptest.NewRequest("POST", "/crm/v3/objects/contacts/batch/upsert", strings.NewReader(bodies[i%len(bodies)]))
				r.Header.Set("Authorization", "Bearer x")
				r.Header.Set("Content-Type", "application/json")
				w := httptest.NewRecorder()
				s.ServeHTTP(w, r)
				if w.Code != http.StatusOK {
					b.Fatal(w.Code, w.Body)
				}
			}
			b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "contacts/s")
		})
	}
}

// BenchmarkSendEvents measures batches of 500.
func BenchmarkSendEvents(b *testing.B) {
	s := New(Options{})
	post := func(path, body string) {
		r := httptest.NewRequest("POST", path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer x")
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code >= 300 {
			b.Fatal(w.Code, w.Body)
		}
	}
	post(definitionsPath, signedUp)
	const event = `{"eventName":"pe20546336_signed_up","email":"user@example.com","occurredAt":"2026-01-20T21:14:16.512Z",` +
		`"properties":{"plan":"pro","seats":"3","hs_page_url":"https://example.com/prices","hs_page_title":"Prices","hs_country":"Germany"}}`
	body := batch(strings.Split(strings.Repeat(event+"\n", 500), "\n")[:500]...)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if i%100 == 0 { // 50,000 events in memory are enough
			s.mu.Lock()
			s.st.events = newEventLog()
			s.mu.Unlock()
		}
		post(sendPath+"/batch", body)
	}
	b.ReportMetric(float64(b.N)*500/b.Elapsed().Seconds(), "events/s")
}
