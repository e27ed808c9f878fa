package store

import (
	"context"
	"fmt"
	"testing"
)

// BenchmarkKVAtItsBound writes batches of 1,000 new entries of $kv, of 50,000 accounts by turns, where 100,000 are kept already.
func BenchmarkKVAtItsBound(b *testing.B) {
	for _, accounts := range []int{1, 50_000} {
		b.Run(fmt.Sprint(accounts), func(b *testing.B) {
			s := mustOpen(b, b.TempDir(), Options{})
			n := 0
			batch := func() {
				batch := &Batch{}
				for range 1000 {
					n++
					account := fmt.Sprint(n % accounts)
					batch.KV = append(batch.KV, KV{Destination: "crm", Account: account, Key: account + "\x00" + fmt.Sprint(n), Value: "1"})
				}
				if err := s.Commit(context.Background(), batch); err != nil {
					b.Fatal(err)
				}
			}
			for n < 100_000 {
				batch()
			}
			b.ResetTimer()
			for range b.N {
				batch()
			}
			b.StopTimer()
			mustClose(b, s)
		})
	}
}
