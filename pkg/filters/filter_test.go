package filters

import (
	"errors"
	"testing"
	"time"

	"github.com/dop251/goja"

	"eventrouter/pkg/event"
)

// TestEnvelope checks that templates see what the router adds to an event.
func TestEnvelope(t *testing.T) {
	ev := &event.Event{
		ID: "id-1", APIKey: "web", Received: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Source: "api", SourceIP: "10.1.2.3",
		UserAgent: "curl/8", JSON: []byte(`{"event_type":"signup"}`),
	}
	f := func(src, want string) {
		t.Helper()
		r, err := mustCompile(t, src).Eval(ev)
		if err != nil || r != (Result{Name: want, Keep: true}) {
			t.Errorf("%s = %+v, %v, want %q", src, r, err, want)
		}
	}
	f("{{.event_type}}_{{._timestamp.Format `2006_01`}}", "signup_2026_03")
	f("`${_.event_type}_${_._timestamp.Format('2006_01')}`", "signup_2026_03")
	f("{{.api_key}} {{.src}} {{.source_ip}} {{.user_agent}} {{.eventn_ctx_event_id}}", "web_api_10_1_2_3_curl_8_id_1")
	f("[$.api_key, $.src, $.source_ip, $.user_agent, $.eventn_ctx_event_id].join(' ')", "web_api_10_1_2_3_curl_8_id_1")
	f("events", "events")
}

// TestWhy: a script that stumbles over a member that an event lacks says so; one that decides does not.
func TestWhy(t *testing.T) {
	f := func(src, why string) {
		t.Helper()
		r, err := mustCompile(t, src).Eval(&event.Event{JSON: []byte(`{"event_type":"signup"}`)})
		if err != nil || r.Keep || r.Why != why {
			t.Errorf("%s = %+v, %v, want not to keep, because %q", src, r, err, why)
		}
	}
	f(`$.parsed_ua.bot ? "" : "yes"`, LacksMember)
	f(`$.event_type == "signup" ? "" : "yes"`, "")
	f(`$.user?.email`, "")
	f(`{{.user.email}}`, "")
}

// TestEventsInTurn checks that nothing of one event is left when the next is evaluated.
func TestEventsInTurn(t *testing.T) {
	f := func(src string) {
		t.Helper()
		filter := mustCompile(t, src)
		for _, c := range []struct {
			json, want string
			keep       bool
		}{
			{`{"event_type":"signup","user":{"email":"a@b.co"},"more":[1,2,3]}`, "signup_a_b_co", true},
			{`{"event_type":"login"}`, "login_none", true},
			{`{"user":{"email":"c@d.co"}}`, "none_c_d_co", true},
			{`{"event_type":"a much longer type than the others have had","user":{}}`, "a_much_longer_type_than_the_others_have_had_none", true},
			{`{}`, "none_none", true},
		} {
			r, err := filter.Eval(&event.Event{ID: "e", APIKey: "k", JSON: []byte(c.json)})
			if err != nil || r != (Result{Name: c.want, Keep: c.keep}) {
				t.Errorf("%s on %s = %+v, %v, want %q, %t", src, c.json, r, err, c.want, c.keep)
			}
		}
	}
	f("{{get . `event_type` `none`}} {{get . `user/email` `none`}}")
	f("{{or .event_type `none`}} {{or .user.email `none`}}")
	f("($.event_type || 'none') + ' ' + ($.user?.email || 'none')")
	f("const {event_type = 'none', user: {email = 'none'} = {}} = $; return `${event_type} ${email}`")
	f("const wait = async v => v; return `${await wait($.event_type ?? 'none')} ${await wait($.user?.email ?? 'none')}`")
}

// evalWhole evaluates by the engine of the language on a whole view, whatever the template names.
func evalWhole(e engine, view string) (text string, ok bool, err error) {
	switch e := e.(type) {
	case *goTemplate:
		return e.eval(view)
	case *script:
		err = e.on(view, func(v goja.Value) (err error) {
			text, ok, err = nameText(v)
			return err
		})
		if err != nil {
			return "", false, err
		}
		return text, ok, nil
	}
	return e.evalEvent(nil) // a constant
}

// evalView is Eval for any view, by the engine of the language, which has no shorter way then.
func (f *Filter) evalView(view string) (Result, error) {
	text, ok, err := evalWhole(f.engine, view)
	if errors.Is(err, errTime) {
		text, ok, err = evalWhole(f.engine, view)
	}
	if err != nil && !errors.Is(err, errSkip) {
		return Result{}, err
	}
	return result(text, ok && err == nil), nil
}
