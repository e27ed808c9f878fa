package ingest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"
)

// FuzzRestrictedMessage: of any JSON nothing is left out but ids, and the address in a context.
func FuzzRestrictedMessage(f *testing.F) {
	for _, seed := range []string{
		`{"anonymousId":"a","b":[{"anonymous_id":1},[],{},[[{"ajs_anonymous_id":{}}]]],"c":{"context":{"ip":"x","y":{"ip":1}}}}`, `{ "anonymousId" : 1 , "anonymousId":[2] }`,
		`{"a":"\"]}","context":[{"ip":1}],"":"","\u0061nonymousId":"\\"}`, `[1,-2e5,true,null,"[,"]`, `{"x":[ 1 , 2 ],"anonymousId":{"a":[1]},"y":{"anonymousId":3}}`,
	} {
		f.Add([]byte(seed))
	}
	var without func(v any, name string) any
	without = func(v any, name string) any {
		switch v := v.(type) {
		case map[string]any:
			for k, inner := range v {
				if k == "anonymousId" || k == "anonymous_id" || k == "ajs_anonymous_id" || k == "ip" && name == "context" {
					delete(v, k)
				} else {
					v[k] = without(inner, k)
				}
			}
		case []any:
			for i := range v {
				v[i] = without(v[i], "")
			}
		}
		return v
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b := acquireBatch()
		defer b.release()
		if b.parse(fmt.Appendf(nil, `{"x":%s}`, data), limits{event: 1 << 20, body: 1 << 20, events: 1}) != nil {
			return
		}
		v := gjson.GetBytes(b.scanner.data, "x")
		if v.Type != gjson.JSON {
			return
		}
		r := restriction{ip: strict, cookie: strict, original: "segment"}
		got := r.message([]byte(`{"x":`), v, "x")
		got = append(got, '}')
		if !json.Valid(got) {
			t.Fatalf("%s became %s", data, got)
		}
		want := without(decoded(t, []byte(v.Raw)), "x")
		if diff := cmp.Diff(want, decoded(t, got).(map[string]any)["x"]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", data, diff)
		}
	})
}

// BenchmarkRestrictedMessages takes messages that are nested as deep as may be under strict policies: the time must not grow with the depth.
func BenchmarkRestrictedMessages(b *testing.B) {
	for _, depth := range []int{1, 110} {
		deep := strings.Repeat(`{"a":`, depth) + `"` + strings.Repeat(`\"`, 15_000) + `"` + strings.Repeat("}", depth)
		message := `{"type":"page","messageId":"m","properties":` + deep + `}`
		body := []byte(`{"batch":[` + strings.Repeat(message+",", 14) + message + `]}`)
		b.Run(fmt.Sprint(depth), func(b *testing.B) {
			s, ctx := benchRequest(b, "/v1/batch?token=js.open&cookie_policy=strict&ip_policy=strict", body)
			if ctx.Response.StatusCode() != 200 {
				b.Fatalf("%s", ctx.Response.Body())
			}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				postAgain(s, ctx)
			}
		})
	}
}
