package router

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/prometheus/client_golang/prometheus"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/enrich"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
	"eventrouter/pkg/log"
	"eventrouter/pkg/seal"
	"eventrouter/pkg/store"
)

// kibibyte is an event of 1 KiB of one of 10,000 persons.
func kibibyte(i int) []byte {
	text := fmt.Sprintf(`{"event_type":"user_identify","user":{"email":"p%d@example.com","id":"u%d","firstname":"Ada","plan":"pro"},"utc_time":"2026-11-21T02:52:27.371000Z","url":"https://shop.example.com/pricing?utm_source=newsletter","page_title":"Pricing page","pad":"`,
		i%10_000, i%10_000)
	pad := make([]byte, (1024-len(text)-2)/2)
	rnd := rand.NewChaCha8([32]byte{byte(i), byte(i >> 8), byte(i >> 16)})
	rnd.Read(pad) // what does not compress: the store compresses blocks
	text += hex.EncodeToString(pad)
	text += strings.Repeat("x", 1024-len(text)-2) + `"}`
	ev := event.Event{
		ID: fmt.Sprintf("event-%d", i), APIKey: "key", Received: time.Now().UTC(), JSON: []byte(text),
		SourceIP:  fmt.Sprintf("81.2.%d.%d", i/256%64, i%256),
		UserAgent: fmt.Sprintf("Mozilla/5.0 (Linux; Android 14; SM-S9%02dB) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.0.0 Mobile Safari/537.36", i*7%10, 120+i*7%200/10),
	}
	return ev.AppendTo(nil)
}

// stuck is a destination that plans and never gets a permit: what stays is the sorter and its commit.
type stuck struct{ *remote }

func (stuck) Acquire(ctx context.Context, _, _ string) (destinations.Permit, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// BenchmarkSorter reads 1 KiB events from the log and hands them over. ns/event is wall time; cpu-ns/event is that of the process.
func BenchmarkSorter(b *testing.B) {
	b.Run("plain", func(b *testing.B) { benchmarkSorter(b, nil, nil) })
	b.Run("encrypted", func(b *testing.B) {
		key, err := seal.ParseKey(seal.NewKey())
		if err != nil {
			b.Fatal(err)
		}
		ring, err := seal.NewRing(true, key)
		if err != nil {
			b.Fatal(err)
		}
		benchmarkSorter(b, nil, nil, ring)
	})
	// With location and parsed_ua of 200 user agents and 16,384 addresses.
	b.Run("enriched", func(b *testing.B) {
		geo, err := enrich.OpenGeo(cities(b), slog.New(slog.DiscardHandler))
		if err != nil {
			b.Fatal(err)
		}
		e := enrich.New(enrich.Options{UserAgent: true, Location: true, Geo: geo})
		e.Warm()
		benchmarkSorter(b, e, nil)
	})
	b.Run("filter", func(b *testing.B) {
		benchmarkSorter(b, nil, func(r *Route) {
			filter, err := filters.Compile(`$.user?.email && $.page_title ? "contacts" : ""`, filters.Options{})
			if err != nil {
				b.Fatal(err)
			}
			r.Filter = filter
		})
	})
	transform := func(script string) func(*Route) {
		return func(r *Route) {
			t, err := filters.CompileTransform(script, filters.Options{})
			if err != nil {
				b.Fatal(err)
			}
			r.Transform = t
		}
	}
	b.Run("transform/two fields", func(b *testing.B) {
		benchmarkSorter(b, nil, transform(`$.page = $.page_title; $.user.plan = "free"; return $`))
	})
	b.Run("transform/left alone", func(b *testing.B) {
		benchmarkSorter(b, nil, transform(`return $.user.plan == "none" ? null : $`))
	})
	b.Run("transform/into two", func(b *testing.B) {
		benchmarkSorter(b, nil, transform(`return [$, {event_type: "seen", user: {email: $.user.email}}]`))
	})
	b.Run("transform/kv", func(b *testing.B) {
		benchmarkSorter(b, nil, transform(`const n = (await $kv.get($.user.id) ?? 0) + 1; await $kv.set($.user.id, n); return {...$, n}`))
	})
}

// cities writes a database in which each network 81.2.x.0/24 is in a town of its own.
func cities(b *testing.B) string {
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "GeoLite2-City"})
	if err != nil {
		b.Fatal(err)
	}
	named := func(name string) mmdbtype.Map {
		return mmdbtype.Map{"en": mmdbtype.String(name), "de": mmdbtype.String(name), "fr": mmdbtype.String(name)}
	}
	for i := range 64 {
		network := &net.IPNet{IP: net.IPv4(81, 2, byte(i), 0), Mask: net.CIDRMask(24, 32)}
		if err := tree.Insert(network, mmdbtype.Map{
			"continent":    mmdbtype.Map{"code": mmdbtype.String("EU"), "names": named("Europe")},
			"country":      mmdbtype.Map{"iso_code": mmdbtype.String("DE"), "names": named("Germany"), "is_in_european_union": mmdbtype.Bool(true)},
			"city":         mmdbtype.Map{"names": named(fmt.Sprintf("Town %d", i)), "geoname_id": mmdbtype.Uint32(i)},
			"location":     mmdbtype.Map{"latitude": mmdbtype.Float64(48.3984 + float64(i)/1000), "longitude": mmdbtype.Float64(9.9916), "time_zone": mmdbtype.String("Europe/Berlin")},
			"postal":       mmdbtype.Map{"code": mmdbtype.String(fmt.Sprint(89000 + i))},
			"subdivisions": mmdbtype.Slice{mmdbtype.Map{"iso_code": mmdbtype.String("BW"), "names": named("Baden")}},
		}); err != nil {
			b.Fatal(err)
		}
	}
	path := filepath.Join(b.TempDir(), "City.mmdb")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := tree.WriteTo(f); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return path
}

func benchmarkSorter(b *testing.B, enricher *enrich.Enricher, change func(*Route), keys ...*seal.Ring) {
	dir := b.TempDir()
	var ring *seal.Ring // nil: nothing is encrypted
	if len(keys) > 0 {
		ring = keys[0]
	}
	st, err := store.Open(filepath.Join(dir, "store"), store.Options{SeenWindow: time.Hour, SeenMax: 10_000_000, Keys: ring})
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	l, err := log.Open(filepath.Join(dir, "log"), log.Options{MaxBytes: 64 << 30, Keys: ring})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	route := Route{Name: "crm", Destination: stuck{newRemote()}, Lanes: config.LaneLimits{OnFull: config.Refuse}}
	if change != nil {
		change(&route)
	}
	r, err := New(Options{
		Log: l, Store: st, Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		MarkFile: filepath.Join(dir, "mark"), Enricher: enricher,
		Routes: []Route{route},
	})
	if err != nil {
		b.Fatal(err)
	}
	const group = 1000
	recs := make([][]byte, 0, group)
	for i := range b.N {
		recs = append(recs, kibibyte(i))
		if len(recs) == group || i == b.N-1 {
			if err := l.Append(recs...); err != nil {
				b.Fatal(err)
			}
			recs = recs[:0]
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	b.SetBytes(1024)
	b.ReportAllocs()
	cpu := cpuTime()
	b.ResetTimer()
	go func() { done <- r.Run(ctx) }()
	for r.live.unsorted() > 0 {
		time.Sleep(time.Millisecond)
	}
	b.StopTimer()
	b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/float64(b.N), "cpu-ns/event")
	b.ReportMetric(float64(b.N)/(cpuTime()-cpu).Seconds(), "events/s/core")
	b.ReportMetric(float64(st.Stats().BlockBytesDisk)/float64(b.N), "disk-B/event")
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
