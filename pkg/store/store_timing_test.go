package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const eventsPerHandOver = 1000

// benchEvents are events of about 1 KiB as a browser sends them: the same fields, ids and values of their own.
func benchEvents(n int) [][]byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	pages := []string{"pricing", "docs/getting-started", "blog/how-we-scaled", "signup", "features/routing", "about", "customers"}
	agents := []string{
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
	}
	events := make([][]byte, n)
	for i := range events {
		page, id := pages[rnd.IntN(len(pages))], fmt.Sprintf("%016x%016x", rnd.Uint64(), rnd.Uint64())
		b := fmt.Appendf(nil, `{"event_id":"%s","event_type":"pageview","api_key":"js.4f2a9c0e8b7d","src":"jitsu","utc_time":"2026-03-04T05:%02d:%02d.%06dZ",`+
			`"user":{"anonymous_id":"%08x","email":"user%d@example.com","id":"%d"},"ids":{"ga":"%d.%d"},"url":"https://www.example.com/%s?utm_source=news&cid=%x",`+
			`"page_title":"Example - %s","doc_path":"/%s","doc_host":"www.example.com","doc_search":"?utm_source=news&cid=%x","screen_resolution":"%dx%d",`+
			`"vp_size":"%dx%d","user_language":"en-US","doc_encoding":"UTF-8","utm":{"source":"news","medium":"email","campaign":"spring"},"click_id":{},`+
			`"user_agent":"%s","source_ip":"10.%d.%d.%d","local_tz_offset":%d,"_timestamp":"2026-03-04T05:06:%02d.%06dZ"`,
			id, rnd.IntN(60), rnd.IntN(60), rnd.IntN(1e6), rnd.Uint32(), rnd.IntN(10000), rnd.IntN(1e6), rnd.Uint32(), rnd.Uint32(), page, rnd.Uint32(),
			page, page, rnd.Uint32(), 1000+rnd.IntN(2000), 600+rnd.IntN(1000), 800+rnd.IntN(1000), 500+rnd.IntN(800),
			agents[rnd.IntN(len(agents))], rnd.IntN(256), rnd.IntN(256), rnd.IntN(256), rnd.IntN(720), rnd.IntN(60), rnd.IntN(1e6))
		b = append(b, `,"note":"`...)
		for len(b) < 1022 {
			b = append(b, "abcdefghijklmnopqrstuvwxyz     "[rnd.IntN(31)])
		}
		events[i] = append(b, `"}`...)
	}
	return events
}

// usage is what a benchmark costs beside time.
type usage struct {
	cpu     time.Duration
	written int64
}

func measureUsage() usage {
	var ru syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	u := usage{cpu: time.Duration(ru.Utime.Nano() + ru.Stime.Nano())}
	io, _ := os.ReadFile("/proc/self/io")
	for line := range strings.SplitSeq(string(io), "\n") {
		fmt.Sscanf(line, "wchar: %d", &u.written)
	}
	return u
}

func reportUsage(b *testing.B, before usage, events int) {
	after := measureUsage()
	n := float64(b.N * events)
	b.ReportMetric(float64((after.cpu-before.cpu).Nanoseconds())/1000/n, "cpu-µs/event")
	b.ReportMetric(float64(after.written-before.written)/n, "written-B/event")
	b.ReportMetric(n/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkHandOver is what the sorter does for 1000 events of 1 KiB. drain: each block is finished by ten calls of a
// dispatcher, as soon as a few are there.
func BenchmarkHandOver(b *testing.B) {
	f := func(name string, uncompressed bool, lanes int, drain bool, pragmas string) {
		b.Run(name, func(b *testing.B) {
			s := mustOpen(b, b.TempDir(), Options{uncompressed: uncompressed, pragmas: pragmas})
			handOver(b, s, lanes, drain)
		})
	}
	f("compressed", false, 1, false, "")
	f("uncompressed", true, 1, false, "")
	f("compressed/20 lanes", false, 20, false, "")
	f("compressed/drain", false, 1, true, "")
	f("uncompressed/drain", true, 1, true, "")
	f("compressed/drain/secure_delete off", false, 1, true, "PRAGMA secure_delete=OFF")
	f("compressed/drain/secure_delete fast", false, 1, true, "PRAGMA secure_delete=FAST")
	f("uncompressed/drain/secure_delete off", true, 1, true, "PRAGMA secure_delete=OFF")
	f("compressed/drain/auto_vacuum off", false, 1, true, "PRAGMA auto_vacuum=NONE; VACUUM")
}

func handOver(b *testing.B, s *Store, lanes int, drain bool) {
	ids := make([]LaneID, lanes)
	for i := range ids {
		ids[i], _ = s.LaneID(LaneName{Destination: "crm", Account: fmt.Sprint(i), Lane: "events"})
	}
	events := benchEvents(eventsPerHandOver)
	per := eventsPerHandOver / lanes
	batch := &Batch{Seen: make([]uint64, eventsPerHandOver), Blocks: make([]Block, lanes)}
	for i := range batch.Blocks {
		batch.Blocks[i] = Block{Lane: ids[i], Entries: per, Oldest: time.Now()}
		for _, e := range events[i*per : (i+1)*per] {
			batch.Blocks[i].Data = append(batch.Blocks[i].Data, e...)
		}
	}
	b.SetBytes(eventsPerHandOver * 1024)
	b.ReportAllocs()
	before := measureUsage()
	for b.Loop() {
		batch.Position++
		for j := range batch.Seen {
			batch.Seen[j] = rand.Uint64()
		}
		mustCommit(b, s, batch)
		if block := s.nextBlock - 4; drain && block > 0 {
			drainBlock(b, s, ids[0], block)
		}
	}
	reportUsage(b, before, eventsPerHandOver)
	st := s.Stats()
	b.ReportMetric(float64(st.BlockBytes)/float64(st.BlockBytesDisk), "ratio")
}

// drainBlock finishes a block in ten calls.
func drainBlock(b *testing.B, s *Store, lane LaneID, block BlockID) {
	const calls, perCall = 10, eventsPerHandOver / 10
	done := make([]byte, (eventsPerHandOver+7)/8)
	for i := range calls {
		p := Progress{Lane: lane, Block: block, Finished: perCall, Done: done}
		for j := range perCall {
			n := i*perCall + j
			done[n/8] |= 1 << (n % 8)
		}
		if i == calls-1 {
			p.Done = nil
		}
		mustCommit(b, s, &Batch{Progress: []Progress{p}})
	}
}

// BenchmarkProgress is a call's outcome: 100 entries of a block are finished, its mark goes, the next call is marked.
func BenchmarkProgress(b *testing.B) {
	f := func(dispatchers int) {
		b.Run(fmt.Sprint(dispatchers), func(b *testing.B) { progress(b, dispatchers) })
	}
	f(1)
	f(8)
}

func progress(b *testing.B, dispatchers int) {
	const perBlock, perCall = 1000, 100
	s := mustOpen(b, b.TempDir(), Options{})
	lane, _ := s.LaneID(LaneName{Destination: "crm", Lane: "contacts"})
	data := make([]byte, perBlock*200)
	for range (b.N*perCall+perBlock-1)/perBlock + dispatchers {
		mustCommit(b, s, &Batch{Blocks: []Block{{Lane: lane, Entries: perBlock, Data: data}}})
	}
	work := make(chan BlockID)
	go func() {
		defer close(work)
		for i := 0; i < b.N; i += perBlock / perCall {
			work <- BlockID(i/(perBlock/perCall) + 1)
		}
	}()
	b.ReportAllocs()
	b.ResetTimer()
	before := measureUsage()
	var wg sync.WaitGroup
	for range dispatchers {
		wg.Go(func() {
			for block := range work {
				finishBlock(b, s, lane, block)
			}
		})
	}
	wg.Wait()
	reportUsage(b, before, perCall)
	st := s.Stats()
	b.ReportMetric(float64(st.Batches)/float64(st.Commits), "batches/commit")
}

func finishBlock(b *testing.B, s *Store, lane LaneID, block BlockID) {
	refs := make([]Ref, 100)
	for i := range refs {
		refs[i] = Ref{Block: block, Index: i}
	}
	done := make([]byte, 125)
	last := CallID(0)
	for i := range 10 {
		p := Progress{Lane: lane, Block: block, Finished: 100, Done: done}
		for j := i * 100; j < (i+1)*100; j++ {
			done[j/8] |= 1 << (j % 8)
		}
		if i == 9 {
			p.Done = nil
		}
		next := s.NextCall()
		mustCommit(b, s, &Batch{Progress: []Progress{p}, CallsDone: []CallID{last}, Calls: []Call{{ID: next, Lane: lane, Entries: refs}}})
		last = next
	}
}

// BenchmarkReadBlocks is what a dispatcher reads to look ahead: 1 MiB of blocks of 1000 events.
func BenchmarkReadBlocks(b *testing.B) {
	f := func(name string, uncompressed bool) {
		b.Run(name, func(b *testing.B) {
			s := mustOpen(b, b.TempDir(), Options{uncompressed: uncompressed})
			lane, _ := s.LaneID(LaneName{Destination: "crm", Lane: "contacts"})
			var data []byte
			for _, e := range benchEvents(eventsPerHandOver) {
				data = append(data, e...)
			}
			const blocks = 50
			for range blocks {
				mustCommit(b, s, &Batch{Blocks: []Block{{Lane: lane, Entries: eventsPerHandOver, Data: data}}})
			}
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			after := BlockID(0)
			for b.Loop() {
				got, err := s.ReadBlocks(context.Background(), lane, after, 1)
				if err != nil {
					b.Fatal(err)
				}
				after = got[0].ID % (blocks - 1)
			}
		})
	}
	f("compressed", false)
	f("uncompressed", true)
}

// BenchmarkOpen opens a store with 10 million entries waiting, and with ids to remember.
func BenchmarkOpen(b *testing.B) {
	f := func(name string, blocks, ids int) {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			s := mustOpen(b, dir, Options{})
			lane, _ := s.LaneID(LaneName{Destination: "crm", Lane: "contacts"})
			batch := &Batch{Seen: make([]uint64, 1000), Blocks: []Block{{Lane: lane, Entries: 1000, Data: make([]byte, 3000)}}}
			for i := range max(blocks, ids/1000) {
				if i >= blocks {
					batch.Blocks = nil
				}
				for j := range batch.Seen {
					batch.Seen[j] = rand.Uint64()
				}
				if i >= ids/1000 {
					batch.Seen = nil
				}
				mustCommit(b, s, batch)
			}
			s.Close()
			for b.Loop() {
				s := mustOpen(b, dir, Options{})
				b.StopTimer()
				if s.Lanes()[0].Entries != int64(blocks)*1000 || s.Stats().Seen != ids {
					b.Fatal(s.Lanes(), s.Stats())
				}
				s.Close()
				b.StartTimer()
			}
		})
	}
	f("10M entries", 10_000, 0)
	f("3M ids", 0, 3_000_000)
}

// BenchmarkWindow is the look-up that the sorter makes for each event, in a set too large for the processor's cache.
func BenchmarkWindow(b *testing.B) {
	w := newWindow("seen", time.Hour, 4_000_000)
	rnd := rand.New(rand.NewPCG(1, 2))
	hashes := make([]uint64, 3_000_000)
	for i := range hashes {
		hashes[i] = rnd.Uint64()
	}
	began := time.Now()
	for part := hashes; len(part) > 0; part = part[1000:] {
		st := w.step(began, [2][]uint64{part[:1000]})
		w.adopt(&st)
	}
	perID := time.Since(began).Nanoseconds() / int64(len(hashes))
	b.Run("miss", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if seen, _ := w.has(rnd.Uint64()); seen {
				b.Fatal("seen")
			}
		}
		b.ReportMetric(float64(w.bytes())/float64(w.len()), "B/id")
		b.ReportMetric(float64(perID), "ns/add")
	})
	b.Run("hit", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if seen, _ := w.has(hashes[(len(hashes)-1-i*7919)&(1<<21-1)]); !seen {
				b.Fatal("not seen")
			}
		}
	})
}

func BenchmarkHash(b *testing.B) {
	s := &Store{k0: 1, k1: 2}
	b.ReportAllocs()
	for b.Loop() {
		s.Hash("js.4f2a9c0e8b7d", "0b4fd3a2-6d9e-4a51-9d3a-0f6f3f1f7f10")
	}
}
