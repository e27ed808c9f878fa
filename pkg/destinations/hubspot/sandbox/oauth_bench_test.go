package sandbox

import (
	"runtime"
	"strconv"
	"testing"
)

// BenchmarkHubs connects a thousand hubs and writes one contact into each.
func BenchmarkHubs(b *testing.B) {
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		t := &testing.T{}
		c := &oauthClient{newClient(t, Options{Apps: []App{testApp()}, Hubs: Hubs(1001, 1000)})}
		for i := range 1000 {
			access, _ := c.install(strconv.Itoa(1001 + i))
			if status, answer := c.as(access, "POST", upsertPath, upsert("a@b.co")); status != 200 {
				b.Fatalf("%d %s", status, answer.Raw)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1000, "B/hub")
		runtime.KeepAlive(c)
	}
}
