package router

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// appendStopped appends events while the router is stopped; post appends them.
func (g *rig) appendStopped(post func()) {
	g.t.Helper()
	g.open()
	post()
	g.closeFiles()
}

// unsortedBulk is how much of the bulk log is not sorted.
func (g *rig) unsortedBulk() int { return int(g.router.bulk.unsorted()) }

// upload is an import of n people's writes of a year ago.
func upload(n int) []string {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprintf(`{"id":"i%d","event_type":"user_identify","utc_time":"1999-01-01T00:00:00Z","user":{"email":"p%d@b.co","v":1}}`, i, i)
	}
	return texts
}

// TestLiveEventPassesAnUploadThatIsUnsorted: it waits for the batch in hand at most, though it came after all of the upload.
func TestLiveEventPassesAnUploadThatIsUnsorted(t *testing.T) {
	const n = 12_000
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		var left atomic.Int64 // of the upload when the live event arrives
		g := newRig(t, r, nil)
		arrived := make(chan time.Time, 1)
		r.answer = func(c call) []error {
			for _, e := range c.entries {
				if e.Event.ID == "live" {
					left.Store(int64(g.unsortedBulk()))
					arrived <- time.Now()
				}
			}
			return nil
		}
		g.appendStopped(func() { g.postBulk(upload(n)...) })
		g.start()
		defer g.stop()
		for g.unsortedBulk() == n {
			time.Sleep(time.Millisecond)
		}
		began := time.Now()
		g.post(`{"id":"live","event_type":"user_identify","user":{"email":"new@b.co","v":2}}`)
		if took := (<-arrived).Sub(began); took > 100*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		if left.Load() < n/2 {
			t.Errorf("of %d bulk events only %d were left to sort when it arrived", n, left.Load())
		}
		g.drain()
		if got := len(r.state); got != n+1 {
			t.Errorf("%d contacts in the end, want %d", got, n+1)
		}
	})
}

// TestUploadHasItsTurn: where live events never end, one batch in ten is of the bulk log.
func TestUploadHasItsTurn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.appendStopped(func() {
			g.postBulk(upload(4000)...)
			for range 20 {
				texts := make([]string, handoverRecords)
				for i := range texts {
					texts[i] = identify(fmt.Sprintf("q%d@b.co", i), 2)
				}
				g.post(texts...)
			}
		})
		g.start()
		defer g.stop()
		for g.router.live.unsorted() > 0 {
			time.Sleep(time.Millisecond)
		}
		if left := g.unsortedBulk(); left > 2500 || left < 1500 {
			t.Errorf("%d of 4000 bulk events are unsorted after 20 full batches of live ones, want 2000", left)
		}
		g.drain()
	})
}

// TestUploadWaitsForWhatCountsAsEarlier: in its turn it does not pass live events that were received before its own time, though these are unsorted: what it
// writes would end as the older value.
func TestUploadWaitsForWhatCountsAsEarlier(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.appendStopped(func() {
			texts := make([]string, 20*handoverRecords)
			for i := range texts {
				texts[i] = fmt.Sprintf(`{"event_type":"ignored","n":%d}`, i)
			}
			g.post(texts...)
			g.post(identify("a@b.co", 1))
			time.Sleep(time.Minute)
			g.postBulk(identifyAt("old@b.co", 1, time.Now().Add(-time.Hour)), identifyAt("a@b.co", 2, time.Now().Add(-time.Second)))
		})
		g.start()
		defer g.stop()
		for g.writes("old@b.co") == "" {
			time.Sleep(time.Millisecond)
		}
		if g.router.live.unsorted() == 0 {
			t.Error("what counts as earlier than all that waits had no turn")
		}
		g.drain()
		g.want("writes", g.writes("a@b.co"), "1 2")
	})
}

// TestBulkRecordThatKillsTheProcess: it is a dead letter, those beside it are delivered, and the count outlives what live events do meanwhile.
func TestBulkRecordThatKillsTheProcess(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.appendStopped(func() {
			g.post(identify("live@b.co", 1))
			g.postBulk(identify("a@b.co", 1), identify("b@b.co", 1), identify("c@b.co", 1))
		})
		var mark [2 * markBytes]byte
		second := mark[markBytes:]
		binary.LittleEndian.PutUint64(second[0:], uint64(FirstBulk)+1)
		binary.LittleEndian.PutUint64(second[8:], uint64(FirstBulk)+2)
		binary.LittleEndian.PutUint64(second[16:], maxDeaths-1)
		binary.LittleEndian.PutUint32(second[24:], crc32.ChecksumIEEE(second[:24]))
		if err := os.WriteFile(filepath.Join(g.dir, "mark"), mark[:], 0o600); err != nil {
			t.Fatal(err)
		}
		g.start()
		g.drain()
		g.stop()
		g.start()
		defer g.stop()
		for _, email := range []string{"live@b.co", "a@b.co", "c@b.co"} {
			g.want(email, g.writes(email), "1")
		}
		g.want("b@b.co", g.writes("b@b.co"), "")
		dead := g.deadLetters()
		if len(dead) != 1 || dead[0].Reason != "poison" || dead[0].Offset != uint64(FirstBulk)+1 || !bytes.Contains(dead[0].Event, []byte("b@b.co")) {
			t.Errorf("dead letters %+v", dead)
		}
		if mark, err := os.ReadFile(filepath.Join(g.dir, "mark")); err != nil || len(mark) != 2*markBytes || strings.Trim(string(mark[:24]), "\x00") != "" {
			t.Errorf("the mark is %x (%v)", mark, err)
		}
	})
}

// TestRecordThatKillsTheProcessIsSeen: what stands as a dead letter is not delivered too, because its client had no answer and sends it again.
func TestRecordThatKillsTheProcessIsSeen(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.appendStopped(func() { g.post(track("deadly", "a@b.co")) })
		g.startWithPoison()
		defer g.stop()
		g.post(track("deadly", "a@b.co"), track("other", "a@b.co"))
		g.drain()
		g.want("events", g.events(), "other")
		if dead := g.deadLetters(); len(dead) != 1 || dead[0].Reason != "poison" || dead[0].EventID != "deadly" {
			t.Errorf("dead letters %+v", dead)
		}
	})
}

// TestExplainUnsortedBulk: an event of an upload that is not sorted yet is found in its log.
func TestExplainUnsortedBulk(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		hold, held := make(chan struct{}), make(chan struct{})
		g.routes = func(g *rig) []Route {
			return []Route{{Name: "crm", Destination: g.remote, Filter: jsonFilter(func(json string) (bool, error) {
				if strings.Contains(json, "hold") {
					close(held)
					<-hold
				}
				return true, nil
			})}}
		}
		g.start()
		defer g.stop()
		g.post(`{"event_type":"hold"}`)
		<-held
		g.postBulk(track("b1", "ada@example.com"), track("b2", "ada@example.com"))
		x, err := g.router.Explain(context.Background(), ExplainQuery{Person: "Ada@example.com"})
		if err != nil || len(x.Receipts) != 2 {
			t.Fatalf("%+v, %v", x, err)
		}
		for i, r := range x.Receipts {
			if r.State != ReceiptUnsorted || r.Offset != uint64(FirstBulk)+uint64(i) || r.EventID != fmt.Sprintf("b%d", i+1) {
				t.Errorf("receipt %+v", r)
			}
		}
		close(hold)
		g.drain()
		if got := story(g.explain(ExplainQuery{EventID: "b1"})); !strings.Contains(got, "delivered") {
			t.Errorf("afterwards: %s", got)
		}
	})
}

// TestSameOffsetsInBothLogs: the first records of both are told apart, also in what is kept of them.
func TestSameOffsetsInBothLogs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		refuse := `{"id":%q,"event_type":"user_identify","refuse":1,"user":{"email":"a@b.co"}}`
		g.start()
		g.post(fmt.Sprintf(refuse, "live"), identify("l@b.co", 1))
		g.postBulk(fmt.Sprintf(refuse, "bulk"), identify("b@b.co", 1))
		g.drain()
		g.stop()
		g.start()
		defer g.stop()
		offsets := map[string]uint64{}
		for _, d := range g.deadLetters() {
			offsets[d.EventID] = d.Offset
		}
		if len(offsets) != 2 || offsets["live"] != 0 || offsets["bulk"] != uint64(FirstBulk) {
			t.Errorf("offsets of dead letters: %v", offsets)
		}
		if x := g.explain(ExplainQuery{Person: "a@b.co"}); len(x.Receipts) != 2 {
			t.Errorf("%d receipts, want 2", len(x.Receipts))
		}
		g.postBulk(identify("c@b.co", 1))
		g.drain()
		g.want("after a restart", g.writes("b@b.co")+g.writes("c@b.co"), "11")
	})
}
