package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sort"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/alecthomas/kong"
)

// settings is the config file: TOML whose keys are flags without their dashes
// in front. Keys at the top are those of all commands, the tables [server] and
// [node] hold those of these two. A key that no flag has is an error. Flags
// and XMIG_ variables win over the file.
//
//	nats = "nats://10.0.0.1:4222"
//	[node]
//	node-name = "hv1"
//	lane-listen = "eth1"
type settings struct {
	loaded bool
	keys   map[string]any // "nats", "node.node-name"
}

// Validate implements kong.Resolver; keys are checked when the file is read.
func (s *settings) Validate(*kong.Application) error { return nil }

// Resolve gives the file's value of a flag, nil for none.
func (s *settings) Resolve(ctx *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
	if flag.Name == "config" || flag.Name == "help" {
		return nil, nil
	}
	if !s.loaded {
		if err := s.load(ctx); err != nil {
			return nil, err
		}
		s.loaded = true
	}
	for _, env := range flag.Envs {
		if _, set := os.LookupEnv(env); set {
			return nil, nil
		}
	}
	key := flag.Name
	if parent.Command != nil {
		key = parent.Command.Name + "." + key
	}
	return s.keys[key], nil
}

// load reads the file that --config or XMIG_CONFIG names, or the usual one.
func (s *settings) load(ctx *kong.Context) error {
	path, asked := defaultConfig, false
	if env := os.Getenv("XMIG_CONFIG"); env != "" {
		path, asked = env, true
	}
	for _, p := range ctx.Path {
		if p.Flag != nil && p.Flag.Name == "config" {
			path, asked = fmt.Sprint(ctx.FlagValue(p.Flag)), true
		}
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !asked {
		return nil
	}
	if err != nil {
		return fmt.Errorf("config file: %w", err)
	}
	tree := map[string]any{}
	if err := toml.Unmarshal(text, &tree); err != nil {
		return fmt.Errorf("config file %s: %w", path, err)
	}
	s.keys = map[string]any{}
	for k, v := range tree {
		table, ok := v.(map[string]any)
		if !ok {
			s.keys[k] = flat(v)
			continue
		}
		for name, value := range table {
			s.keys[k+"."+name] = flat(value)
		}
	}
	return s.unknown(path, ctx.Model)
}

// flat gives a value as a flag would have it: lists joined by commas.
func flat(v any) any {
	list, ok := v.([]any)
	if !ok {
		return fmt.Sprint(v)
	}
	items := make([]string, len(list))
	for i, it := range list {
		items[i] = fmt.Sprint(it)
	}
	return strings.Join(items, ",")
}

// unknown refuses keys that no flag has: a word misspelt must not be a setting
// that is silently not there.
func (s *settings) unknown(path string, app *kong.Application) error {
	var known []string
	for _, f := range app.Flags {
		known = append(known, f.Name)
	}
	for _, cmd := range app.Children {
		if cmd.Name != "server" && cmd.Name != "node" {
			continue
		}
		for _, f := range cmd.Flags {
			known = append(known, cmd.Name+"."+f.Name)
		}
	}
	var bad []string
	for k := range s.keys {
		if !slices.Contains(known, k) {
			bad = append(bad, k)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	sort.Strings(bad)
	return fmt.Errorf("config file %s: unknown keys: %s; `xmig server --help` and `xmig node --help` name all there are", path, strings.Join(bad, ", "))
}
