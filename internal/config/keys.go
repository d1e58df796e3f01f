package config

import (
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"kafka-sni-proxy/internal/suggest"
)

// The keys of settings are those of the types, in their yaml tags.

// unknownKey notes that there is no such setting.
func (r *reader) unknownKey(key *yaml.Node, group reflect.Type, path string) {
	known, full := keysOf(group), join(path, inPath(key.Value))
	word := strings.ReplaceAll(strings.ToLower(key.Value), "_", "-")
	near := suggest.To(word)
	for _, k := range known {
		near.Compare(k)
	}
	best, short := near.Best(), strings.TrimSuffix(strings.TrimSuffix(word, "-timeout"), "-bytes")
	forms := []string{word, short, strings.TrimPrefix(short, "max-")} // the flag is idle-timeout, and the setting idle
	for _, form := range forms {
		if slices.Contains(known, form) {
			best = form
		}
	}
	if best != "" {
		r.errorf(key, full, "there is no such setting: did you mean %s?", best)
		return
	}
	for _, form := range forms {
		if places := placesOf(reflect.TypeFor[Config](), form, ""); len(places) > 0 {
			r.errorf(key, full, "there is no such setting here: did you mean %s?", strings.Join(places, " or "))
			return
		}
	}
	r.errorf(key, full, "there is no such setting here: there are %s", strings.Join(known, ", "))
}

// placesOf returns the paths of the settings that have a key, in groups from a type on.
func placesOf(t reflect.Type, key, path string) (places []string) {
	switch t.Kind() {
	case reflect.Pointer:
		return placesOf(t.Elem(), key, path)
	case reflect.Slice:
		return placesOf(t.Elem(), key, path+"[]")
	case reflect.Map:
		return placesOf(t.Elem(), key, path+".NAME")
	case reflect.Struct:
		for i := range t.NumField() {
			switch name, inline := keyOf(t.Field(i)); {
			case name == key && path != "":
				places = append(places, join(path, name))
			case inline:
				places = append(places, placesOf(t.Field(i).Type, key, path)...)
			case name != "":
				places = append(places, placesOf(t.Field(i).Type, key, join(path, name))...)
			}
		}
	}
	return places
}

// fieldOf returns the field of a struct for a key.
func fieldOf(v reflect.Value, key string) (reflect.Value, bool) {
	for i := range v.NumField() {
		switch name, inline := keyOf(v.Type().Field(i)); {
		case inline:
			if field, ok := fieldOf(v.Field(i), key); ok {
				return field, true
			}
		case name == key:
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// keysOf returns the keys of a struct's fields.
func keysOf(t reflect.Type) (keys []string) {
	for i := range t.NumField() {
		if name, inline := keyOf(t.Field(i)); inline {
			keys = append(keys, keysOf(t.Field(i).Type)...)
		} else {
			keys = append(keys, name)
		}
	}
	return keys
}

// keyOf returns a field's key, or whether its own fields stand in its place.
func keyOf(f reflect.StructField) (key string, inline bool) {
	key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return key, options == "inline"
}
