package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
)

const evaluatePath = "/api/v1/templates/evaluate"

// maxEvaluateBody bounds the body of POST /api/v1/templates/evaluate.
const maxEvaluateBody = 1 << 20

// transformField is the field whose expression is a transform, in Jitsu's words; every other one holds a template.
const transformField = "_transform"

// evaluation is the body of a request, as Jitsu's UI posts it.
type evaluation struct {
	Object     json.RawMessage `json:"object"`
	Expression string          `json:"expression"`
	Reformat   bool            `json:"reformat"` // the result is to be written as a table name
	Type       string          `json:"type"`     // of the destination
	UID        string          `json:"uid"`      // its name
	Field      string          `json:"field"`
	Config     json.RawMessage `json:"config"` // of the destination, whose data_layout.transform is used where there is no expression
	Variables  map[string]any  `json:"template_variables"`
}

// evaluated is the body of an answer, also of one with 400.
type evaluated struct {
	Result string        `json:"result"`
	Logs   []evaluateLog `json:"logs,omitempty"`
	Error  string        `json:"error"`
	// UserResult and UserError are always "": they are for destination types with a transform of their own.
	UserResult string `json:"user_result"`
	UserError  string `json:"user_error"`
	Format     string `json:"format"`
}

type evaluateLog struct {
	Level   string `json:"level"`
	Message string `json:"message"`
}

// evaluatePage answers POST /api/v1/templates/evaluate: what a template or transform makes of an object. It shows nothing of the configuration.
type evaluatePage struct {
	runs   *dryRuns // whose turn it takes
	hidden func() redactor
}

// ServeHTTP answers with what an expression makes of an event.
func (p *evaluatePage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out, err := p.evaluate(w, r)
	status := http.StatusOK
	if err != nil {
		out.Error, status = err.Error(), http.StatusBadRequest
	}
	data, err := p.hidden().json(out)
	if err != nil {
		status = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(data) // an error means that the client has gone
}

func (p *evaluatePage) evaluate(w http.ResponseWriter, r *http.Request) (out evaluated, err error) {
	// Without an admin token this machine may ask, and with it any page that its browser shows.
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return out, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEvaluateBody))
	if err != nil {
		return out, errors.New("the body can not be read, or is longer than 1 MiB")
	}
	ctx, cancel := context.WithTimeout(context.Background(), dryRunTimeout)
	defer cancel()
	done, err := p.runs.begin(ctx)
	if err != nil {
		return out, err
	}
	defer done()
	return evaluate(body)
}

// evaluate reads a request and does what it asks for.
func evaluate(body []byte) (out evaluated, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("BUG: panic: %v", p)
		}
	}()
	var in evaluation
	if err := json.Unmarshal(body, &in); err != nil {
		return out, fmt.Errorf("the body must be a JSON object: %w", err)
	}
	if !gjson.ParseBytes(in.Object).IsObject() {
		return out, errors.New("'object' is required field")
	}
	for name, value := range in.Variables {
		text, _ := value.(string)
		switch name {
		case "destinationId":
			in.UID = text
		case "destinationType":
			in.Type = text
		default:
			return out, fmt.Errorf("template_variables: %.40q: a script of the router has destinationId and destinationType, and no others", name)
		}
	}
	if in.Field == transformField {
		return in.transform()
	}
	if in.Expression == "" {
		return out, errors.New("'expression' is required field")
	}
	return in.template()
}

// options are what a script sees of its destination.
func (in *evaluation) options() filters.Options {
	return filters.Options{Destination: in.UID, Type: in.Type}
}

// event is the object as an event that came with what it says of itself.
func (in *evaluation) event() *event.Event {
	object := event.Normalize(in.Object)
	members := gjson.GetManyBytes(object, event.FieldAPIKey, event.FieldEventID, "eventn_ctx.event_id", event.FieldTimestamp)
	ev := &event.Event{JSON: object, APIKey: members[0].String(), ID: members[1].String(), Received: time.Now().UTC(), Server: true}
	if ev.ID == "" {
		ev.ID = members[2].String()
	}
	if at, err := time.Parse(time.RFC3339Nano, members[3].String()); err == nil {
		ev.Received = at.UTC()
	}
	return ev
}

// template evaluates a table_name_template.
func (in *evaluation) template() (out evaluated, err error) {
	f, err := filters.Compile(in.Expression, in.options())
	if err != nil {
		return out, err
	}
	out.Format = f.Format()
	if in.Reformat {
		res, err := f.Eval(in.event())
		if res.Why != "" {
			out.Logs = append(out.Logs, evaluateLog{"info", res.Why})
		}
		out.Result = res.Name
		return out, err
	}
	out.Result, err = f.Text(in.event())
	return out, err
}

// transform evaluates a data_layout.transform.
func (in *evaluation) transform() (out evaluated, err error) {
	if err := in.takeConfig(); err != nil {
		return out, err
	}
	out.Format = filters.JavaScript
	t, err := filters.CompileTransform(in.Expression, in.options())
	if err != nil {
		return out, err
	}
	outputs := []filters.Output{{Event: in.event()}}
	if t != nil { // else it changes nothing
		why := ""
		outputs, why, err = t.Eval(in.event(), filters.World{KV: filters.NewMemoryKV(nil), Log: func(level, line string) {
			out.Logs = append(out.Logs, evaluateLog{level, line})
		}})
		if err == nil && len(outputs) == 0 {
			out.Logs = append(out.Logs, evaluateLog{"info", why})
		}
	}
	if err != nil {
		return out, err
	}
	var kept []json.RawMessage
	for _, o := range outputs {
		if o.Table == nil || o.Table.Keep {
			kept = append(kept, o.Event.AppendView(nil))
		}
	}
	switch len(kept) {
	case 0:
		out.Result = "SKIPPED"
	case 1:
		out.Result, err = sorted(kept[0])
	default:
		out.Result, err = sorted(kept)
	}
	return out, err
}

// takeConfig checks the destination that is given, and takes its transform where there is no expression.
func (in *evaluation) takeConfig() error {
	if config := bytes.TrimSpace(in.Config); len(config) > 0 && !bytes.Equal(config, []byte("null")) {
		_, cfg, err := requestedDestination(config)
		if err != nil {
			return err
		}
		if cfg == nil {
			return errors.New("config is a destination: its type, config and data_layout")
		}
		d := cfg.Destinations[0]
		if in.Expression == "" {
			in.Expression = d.Transform
		}
		if in.Type == "" {
			in.Type = d.Type
		}
	}
	if in.Expression == "" {
		return errors.New("'expression' is required field")
	}
	return nil
}

// sorted is JSON as Jitsu writes it: indented by three, members by name. Numbers stay as they are.
func sorted(v any) (string, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var any any
	if err := dec.Decode(&any); err != nil {
		return "", err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "   ")
	err = enc.Encode(any)
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), err
}
