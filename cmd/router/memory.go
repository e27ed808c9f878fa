package main

import (
	"context"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The garbage collector lets the heap become twice as large as what is in use, which a small machine feels when many events wait. From goodMemory on it is to work
// a little more. What is in use is never crowded: then it would do nothing else. Most of what is in use then are hashes, which it need not look at, so that a few more rounds cost little.
const (
	goodMemory  = 128 << 20
	spareMemory = 32 << 20
)

// memoryLimit is the limit for so many bytes in use.
func memoryLimit(live uint64) int64 { return max(goodMemory, int64(live+live/8)+spareMemory) }

// boundMemory keeps the limit until ctx ends, unless the environment has one (GOMEMLIMIT).
func boundMemory(ctx context.Context) {
	before := debug.SetMemoryLimit(-1)
	if before != math.MaxInt64 {
		return
	}
	defer debug.SetMemoryLimit(before)
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for now := int64(0); ; {
		metrics.Read(sample)
		if limit := memoryLimit(sample[0].Value.Uint64()); limit != now {
			debug.SetMemoryLimit(limit)
			now = limit
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
