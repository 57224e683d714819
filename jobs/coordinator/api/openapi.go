package api

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"xmig/jobs"
	"xmig/jobs/coordinator"
	"xmig/jobs/coordinator/alert"
)

// object is a piece of a JSON document.
type object = map[string]any

// Document is the OpenAPI document of the routes. It is made of the list that
// requests are routed by and of the Go types that are answered with, so that it
// cannot say anything else.
func Document() object {
	s := schemas{named: object{}}
	paths := object{}
	for _, r := range routes() {
		p, ok := paths[r.path].(object)
		if !ok {
			p = object{}
			paths[r.path] = p
		}
		p[strings.ToLower(r.method)] = s.operation(r)
	}
	problem := s.of(reflect.TypeFor[Problem]())
	return object{
		"openapi":  "3.1.0",
		"info":     object{"title": "xmig", "version": "v1", "description": "What the coordinator does and knows. Durations are nanoseconds, sizes bytes, times RFC 3339."},
		"paths":    paths,
		"security": []any{object{"token": []any{}}, object{"certificate": []any{}}},
		"components": object{
			"schemas":   s.named,
			"responses": object{"problem": object{"description": "Why not: code is for programs, text for people.", "content": jsonOf(problem)}},
			"securitySchemes": object{
				"token":       object{"type": "http", "scheme": "bearer"},
				"certificate": object{"type": "mutualTLS"},
			},
		},
	}
}

func jsonOf(schema object) object { return object{"application/json": object{"schema": schema}} }

var pathParam = regexp.MustCompile(`\{([a-z]+)\}`)

func (s schemas) operation(r route) object {
	var params []any
	for _, m := range pathParam.FindAllStringSubmatch(r.path, -1) {
		params = append(params, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, name := range slices.Sorted(maps.Keys(r.query)) {
		params = append(params, object{"name": name, "in": "query", "description": r.query[name], "schema": object{"type": "string"}})
	}
	ok := object{"description": "Done."}
	switch {
	case r.out != nil:
		ok["content"] = jsonOf(s.of(r.out))
	case strings.HasSuffix(r.path, "/events"):
		ok["content"] = object{"text/event-stream": object{"schema": s.of(reflect.TypeFor[jobs.Event]())}}
	}
	op := object{
		"summary": r.summary, "operationId": operationID(r), "x-role": string(r.role),
		"responses": object{statusText(r.status): ok, "default": object{"$ref": "#/components/responses/problem"}},
	}
	if params != nil {
		op["parameters"] = params
	}
	if r.role == Anyone {
		op["security"] = []any{}
	}
	switch {
	case r.in != nil:
		op["requestBody"] = object{"content": jsonOf(s.of(r.in))}
	case r.role == Alert:
		op["requestBody"] = object{"required": true, "content": jsonOf(object{"type": "object"})}
	}
	return op
}

func statusText(n int) string {
	return string([]byte{byte('0' + n/100), byte('0' + n/10%10), byte('0' + n%10)})
}

// operationID is get-jobs-id-cancel: unique because method and path are.
func operationID(r route) string {
	path := strings.NewReplacer("/v1/", "", "{", "", "}", "", "/", "-", ".", "-").Replace(r.path)
	return strings.ToLower(r.method) + "-" + path
}

// schemas makes JSON schemas of Go types; structs are named and made once.
type schemas struct{ named object }

// words lists the values of types that have few.
var words = map[reflect.Type][]any{
	reflect.TypeFor[jobs.State]():            anyOf(jobs.States()),
	reflect.TypeFor[jobs.StepName]():         append(anyOf(jobs.Steps()), ""),
	reflect.TypeFor[alert.HostState]():       anyOf([]alert.HostState{alert.Active, alert.Cordoned, alert.Draining, alert.Drained, alert.Gone}),
	reflect.TypeFor[jobs.IncidentState]():    anyOf([]jobs.IncidentState{jobs.Waiting, jobs.HeldBack, jobs.Acting, jobs.Acted, jobs.IncidentIsOver}),
	reflect.TypeFor[jobs.AlertStatus]():      anyOf([]jobs.AlertStatus{jobs.Firing, jobs.Resolved}),
	reflect.TypeFor[coordinator.DrainKind](): anyOf([]coordinator.DrainKind{coordinator.Emptying, coordinator.Homing}),
}

func anyOf[T any](values []T) []any {
	out := make([]any, len(values))
	for i, v := range values {
		out[i] = v
	}
	return out
}

// of gives the schema of what encoding/json makes of a type.
func (s schemas) of(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[time.Duration]():
		return object{"type": "integer", "format": "int64", "description": "nanoseconds"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return object{"anyOf": []any{s.of(t.Elem()), object{"type": "null"}}}
	case reflect.String:
		if w, ok := words[t]; ok {
			return object{"type": "string", "enum": w}
		}
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return object{"type": []any{"string", "null"}, "contentEncoding": "base64"}
		}
		return object{"type": []any{"array", "null"}, "items": s.of(t.Elem())}
	case reflect.Array:
		return object{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return object{"type": []any{"object", "null"}, "additionalProperties": s.of(t.Elem())}
	case reflect.Struct:
		return s.structOf(t)
	}
	return object{"type": "integer", "format": "int64"} // the other kinds that are used are integers: a test answers with all
}

func (s schemas) structOf(t reflect.Type) object {
	// Two packages have a Plan.
	name := strings.NewReplacer("coordinator.", "Fleet", "jobs.", "", "alert.", "Alert", "api.", "").Replace(t.String())
	ref := object{"$ref": "#/components/schemas/" + name}
	if _, made := s.named[name]; made {
		return ref
	}
	schema := object{"type": "object", "additionalProperties": false}
	s.named[name] = schema // before its fields: a type may contain itself
	props := object{}
	var required []any
	s.fields(t, props, &required)
	if len(props) > 0 {
		schema["properties"] = props
	}
	if required != nil {
		schema["required"] = required
	}
	return ref
}

func (s schemas) fields(t reflect.Type, props object, required *[]any) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			s.fields(f.Type, props, required)
		case name == "-" || !f.IsExported():
		default:
			props[name] = s.of(f.Type)
			if !strings.Contains(opts, "omit") {
				*required = append(*required, name)
			}
		}
	}
}
