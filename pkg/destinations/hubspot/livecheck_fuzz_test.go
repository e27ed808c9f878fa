package hubspot

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// FuzzLiveCheck answers all calls with any status and bytes, which may repeat the token: the check ends with findings that do not.
func FuzzLiveCheck(f *testing.F) {
	for _, body := range []string{
		`{"portalId":12345,"timeZone":"Europe/Berlin","utcOffsetMilliseconds":3600000,"scopes":["a"],"results":[{"name":"email","type":"string"}]}`,
		`{"portalId":"` + testToken + `","accountType":"` + testToken + `","timeZone":"../etc","results":[{"name":"` + testToken + `"}]}`,
		`{"message":"` + testToken + `"}`, `{"results":[{}],"paging":{"next":{"after":"1"}}}`, `[]`, ``, `{"results":{}}`, testToken,
	} {
		for _, status := range []uint16{200, 204, 207, 302, 400, 401, 403, 404, 477, 503} {
			f.Add(status, body)
		}
	}
	f.Fuzz(func(t *testing.T, status uint16, body string) {
		if status < 200 || status > 599 || status == http.StatusTooManyRequests { // a 429 is waited for
			return
		}
		r := newRig(t, sandbox.Options{}, "id_property: user_id\nproperties: {write: {city: append}, map: {plan: x}, unknown: create}\n")
		r.env.Transport = script(func(req *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: int(status), Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1, Request: req}, nil
		})
		r.restart()
		found := r.dest.Test(t.Context())
		if len(found) == 0 {
			t.Fatal("no finding")
		}
		for _, finding := range found {
			if strings.Contains(finding.Text+finding.Fix, testToken) {
				t.Fatalf("%d %q: %+v", status, body, finding)
			}
		}
	})
}
