package hubspot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

// recorder keeps the calls that write something.
type recorder struct {
	http.RoundTripper
	posts []post
}

type post struct {
	path   string
	header http.Header
	body   []byte
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	if req.Method == http.MethodPost {
		r.posts = append(r.posts, post{req.URL.Path, req.Header, body})
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	return r.RoundTripper.RoundTrip(req)
}

// answerRecorder keeps the body of the last answer, and gives it again instead of making calls if repeat is set.
type answerRecorder struct {
	http.RoundTripper
	last   []byte
	repeat bool
}

func (r *answerRecorder) RoundTrip(req *http.Request) (*http.Response, error) {
	if r.repeat {
		return &http.Response{
			StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(r.last)), ContentLength: int64(len(r.last)),
		}, nil
	}
	res, err := r.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if r.last, err = io.ReadAll(res.Body); err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(r.last))
	return res, nil
}

// TestCallsLookLikeHubSpotsOwnClient compares calls with those that HubSpot's client for Node was recorded to make.
func TestCallsLookLikeHubSpotsOwnClient(t *testing.T) {
	f := func(file, path string, ev *event.Event, ours ...string) {
		t.Helper()
		raw, err := os.ReadFile("testdata/client/" + file)
		if err != nil {
			t.Fatal(err)
		}
		var recorded struct {
			URL     string
			Headers map[string]string
			Body    struct{ Inputs []map[string]any }
		}
		if err := json.Unmarshal(raw, &recorded); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{Properties: []sandbox.Property{{Name: "plan", Label: "Plan", Type: "string", FieldType: "text"}}}, "api_version: v3\n")
			rec := &recorder{RoundTripper: r.env.Transport}
			r.env.Transport = rec
			r.restart()
			mustDeliver(t, r.run(ev))
			last := rec.posts[len(rec.posts)-1]
			if last.path != recorded.URL {
				t.Errorf("path %s, want %s", last.path, recorded.URL)
			}
			if got, want := last.header.Get("Content-Type"), recorded.Headers["content-type"]; got != want {
				t.Errorf("content type %s, want %s", got, want)
			}
			if got := last.header.Get("Authorization"); got != "Bearer "+testToken {
				t.Error("authorization is not a bearer token")
			}
			if got := last.header.Get("User-Agent"); !strings.HasPrefix(got, "eventrouter/") {
				t.Errorf("user agent %s", got)
			}
			var body struct{ Inputs []map[string]any }
			if err := json.Unmarshal(last.body, &body); err != nil {
				t.Fatal(err)
			}
			got, want := body.Inputs[0], recorded.Body.Inputs[0]
			for _, name := range ours {
				if got[name] == nil {
					t.Errorf("no %s", name)
				}
				delete(got, name)
				delete(want, name)
			}
			want["eventName"] = got["eventName"] // of another hub
			if want["eventName"] == nil {
				delete(want, "eventName")
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	f("client-contacts-batch-upsert.json", "", identify(`{"email":"jon@website.com","firstname":"Jon","plan":"pro"}`), "objectWriteTraceId")
	f("client-events-send-batch.json", "",
		&event.Event{
			JSON:     []byte(`{"event_type":"signed_up","plan":"pro","user":{"email":"a@b.co"},"utc_time":"2026-01-20T21:14:16.512Z"}`),
			Received: time.Date(2026, 1, 21, 0, 0, 0, 0, time.UTC), ID: "1",
		}, "uuid")
}

// TestVersions makes each call by the paths of each API version.
func TestVersions(t *testing.T) {
	for version := range versions {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, "api_version: "+version+"\n")
			mustDeliver(t, r.run(identify(`{"email":"a@b.co","firstname":"A"}`), track("x")))
			if n := r.calls("unknown", 0); n != 0 {
				t.Errorf("%s: %d calls to paths that HubSpot lacks", version, n)
			}
		})
	}
}

// TestTheTokenIsNowhere looks for the token in everything that comes out of a destination, after every fault; the answers repeat it.
func TestTheTokenIsNowhere(t *testing.T) {
	f := func(endpoint string, fault sandbox.Fault) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, "")
			fault.Endpoint = endpoint
			if fault.Status >= 400 && fault.Body == "" {
				fault.Body = fmt.Sprintf(`{"message":"Bearer %[1]s","category":"%[1]s","errors":[{"message":"%[1]s","code":"%[1]s","context":{"propertyName":["%[1]s"]}}]}`, testToken)
			}
			r.box.Inject(fault)
			contacts, others := r.entries(serverEvent(`{"event_type":"x","user":{"email":"a@b.co","firstname":"A"}}`))
			var out strings.Builder
			for range 8 {
				for _, o := range append(r.send(contacts), r.send(others)...) {
					fmt.Fprintf(&out, "%v %+v %s\n", o.Err, o.Err, o.Detail)
					for err := o.Err; err != nil; err = errors.Unwrap(err) {
						fmt.Fprintf(&out, "%v\n", err)
					}
				}
				time.Sleep(20 * time.Second)
			}
			families, err := r.reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(&out, families, r.logs.String())
			for key, v := range r.cache.values {
				fmt.Fprintf(&out, "%s %s", key, v.value)
			}
			if i := strings.Index(out.String(), testToken); i >= 0 {
				t.Errorf("%s, status %d: the token is in %q", endpoint, fault.Status, out.String()[max(0, i-100):i+50])
			}
		})
	}
	for _, a := range answers {
		for _, endpoint := range []string{upsertEndpoint, sendEndpoint, "properties/list", "definitions"} {
			f(endpoint, a.fault)
		}
	}
	f(upsertEndpoint, sandbox.Fault{Status: 207, Body: `{"results":[],"numErrors":1,"errors":[{"message":"` + testToken + `"}]}`})
}
