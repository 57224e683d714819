package bus

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"xmig/jobs"
)

// Office is the right to change the records of jobs that wait. The lease says
// who may take it; the office is its fence: taking it ends every earlier one,
// and each write of an office is bound, by the store itself, to nobody having
// taken it since. However late a write of an earlier holder arrives, it is refused.
type Office struct {
	k bucket

	mu       sync.Mutex // writes are in order: each is bound to the one before it
	holder   string
	revision uint64 // of the office's key, in the records' bucket
}

// officeKey has one token, so no record has it.
const officeKey = "office"

type storedOffice struct {
	Write  string `json:"write"`
	Holder string `json:"holder"`
}

// TakeOffice ends every earlier office.
func (b *Bus) TakeOffice(ctx context.Context, holder string) (*Office, error) {
	o := &Office{k: b.bucket(bucketJobs), holder: holder}
	for {
		e, err := o.k.latest(ctx, officeKey)
		if err != nil && !errors.Is(err, jobs.ErrNotFound) {
			return nil, fmt.Errorf("office: %w", err)
		}
		value, err := o.touch()
		if err != nil {
			return nil, err
		}
		if o.revision, err = o.k.swap(ctx, officeKey, value, e.revision); !errors.Is(err, jobs.ErrConflict) {
			return o, err
		}
	}
}

func (o *Office) touch() ([]byte, error) {
	return Encode(storedOffice{Write: rand.Text(), Holder: o.holder})
}

// List returns all records, none of them older than the taking of the office:
// a replica that has not seen it yet is asked again.
func (o *Office) List(ctx context.Context) ([]jobs.Record, error) {
	r := &Records{o.k}
	for {
		all, err := o.k.all(ctx, ">")
		if err != nil {
			return nil, err
		}
		var out []jobs.Record
		var errs []error
		fresh := false
		for _, e := range all {
			if e.key == officeKey {
				fresh = e.revision >= o.revision
				continue
			}
			rec, err := r.decode(e)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			out = append(out, rec)
		}
		if fresh {
			return out, errors.Join(errs...)
		}
		if !pause(ctx, tryAgain) {
			return nil, away("records", context.Cause(ctx))
		}
	}
}

// Save is Records.Save, bound to the office. An error of class Lost: somebody
// else has the office. ErrConflict: the record changed since it was read.
func (o *Office) Save(ctx context.Context, rec jobs.Record) (jobs.Record, error) {
	r := &Records{o.k}
	return r.put(ctx, rec, func(ctx context.Context, key string, value []byte) (uint64, error) {
		return o.write(ctx, key, value, rec.Revision)
	})
}

// write puts the office's key and the record's in one step: both or none. One
// whose outcome is unknown is looked for, and made again if it is not there.
func (o *Office) write(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		touch, err := o.touch()
		if err != nil {
			return 0, err
		}
		last, err := o.batch(ctx, touch, key, value, revision)
		if err == nil {
			o.revision = last - 1
			return last, nil
		}
		mine, merr := o.k.latest(ctx, officeKey)
		now, nerr := o.k.latest(ctx, key)
		switch {
		case merr != nil || nerr != nil:
		case bytes.Equal(mine.value, touch) && bytes.Equal(now.value, value): // its answer was lost
			o.revision = mine.revision
			return now.revision, nil
		case mine.revision != o.revision:
			return 0, jobs.NotOurs("the office of %s is another's by now", o.holder)
		case now.revision != revision:
			return 0, fmt.Errorf("%s: write %s: %w", o.k.name, key, jobs.ErrConflict)
		}
		if !pause(ctx, 100*time.Millisecond) {
			return 0, away(o.k.name+": write "+key+", outcome not known", err)
		}
	}
}

// batch sends both writes as one atomic batch and gives the sequence of the last.
func (o *Office) batch(ctx context.Context, touch []byte, key string, value []byte, revision uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, oneTry)
	defer cancel()
	id := rand.Text()
	first := &nats.Msg{Subject: o.k.subject(officeKey), Data: touch, Header: batchHeader(id, "1", o.revision)}
	if err := o.k.b.nc.PublishMsg(first); err != nil {
		return 0, err
	}
	second := &nats.Msg{Subject: o.k.subject(key), Data: value, Header: batchHeader(id, "2", revision)}
	second.Header.Set("Nats-Batch-Commit", "1")
	m, err := o.k.b.nc.RequestMsgWithContext(ctx, second)
	if err != nil {
		return 0, err
	}
	return acknowledged(m.Data)
}

func batchHeader(id, sequence string, revision uint64) nats.Header {
	return nats.Header{
		"Nats-Batch-Id":                     {id},
		"Nats-Batch-Sequence":               {sequence},
		jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(revision, 10)},
	}
}

// acknowledged reads the server's answer to a publication.
func acknowledged(data []byte) (uint64, error) {
	var a struct {
		Error    *jetstream.APIError `json:"error"`
		Sequence uint64              `json:"seq"`
	}
	if err := json.Unmarshal(data, &a); err != nil {
		return 0, err
	}
	if a.Error != nil {
		return 0, a.Error
	}
	return a.Sequence, nil
}
