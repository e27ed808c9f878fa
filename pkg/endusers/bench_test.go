package endusers

import (
	"testing"
)

// BenchmarkVerify compares a token that was verified before with one that was not.
func BenchmarkVerify(b *testing.B) {
	for alg, s := range signers(b) {
		v := newVerifier(b, settings(publicPEM(b, s.key)), Options{})
		token := []byte(s.sign(b, good()))
		b.Run(alg+"/known", func(b *testing.B) {
			for b.Loop() {
				if _, err := v.Verify(token); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(alg+"/new", func(b *testing.B) {
			for b.Loop() {
				v.known.now, v.known.before = map[tokenID]entry{}, nil
				if _, err := v.Verify(token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
