/* Forwarder: the RTP of one leg. */

#include "forwarding.h"

#include <string.h>
#include <structmember.h>

#define OPUS_CLOCK 48000
#define LATE_PACKETS 1024
#define SOURCES_ALLOWED 2
#define NONE (-1)    /* no source, no floor: values are not negative */
#define ANOTHER_SOURCE (-2)
#define REPLAY_FAIL 9 /* srtp_err_status_replay_fail, _replay_old (srtp.h of libsrtp 2) */
#define REPLAY_OLD 10

static uint32_t get32(const uint8_t *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}
static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }
static void put32(uint8_t *at, uint32_t value) {
    at[0] = value >> 24, at[1] = value >> 16, at[2] = value >> 8, at[3] = value;
}
static void put16(uint8_t *at, uint16_t value) { at[0] = value >> 8, at[1] = value; }

/* dropped[cause] += 1 of a collections.Counter; 0, or -1 with an exception. */
static int count_drop(PyObject *dropped, int cause) {
    PyObject *before = PyDict_GetItemWithError(dropped, causes[cause]);
    if (!before && PyErr_Occurred()) return -1;
    PyObject *after = PyLong_FromLongLong(before ? PyLong_AsLongLong(before) + 1 : 1);
    if (!after || PyErr_Occurred()) {
        Py_XDECREF(after);
        return -1;
    }
    int result = PyDict_SetItem(dropped, causes[cause], after);
    Py_DECREF(after);
    return result;
}

static void begin_reception(Forwarder *self) {
    self->received = self->highest = self->cycles = self->expected_prior = self->received_prior = 0;
    self->base = self->transit = NONE;
    self->jitter = 0;
}

static long long expected(const Forwarder *self) {
    return self->base < 0 ? 0 : self->cycles + self->highest - self->base + 1;
}

static long long lost(const Forwarder *self) {
    long long missing = expected(self) - self->received;
    return missing > 0 ? missing : 0;
}

static void note_reception(Forwarder *self, uint16_t sequence, uint32_t timestamp, double arrival) {
    self->received++;
    if (self->base < 0) {
        self->base = self->highest = sequence;
    } else {
        uint16_t ahead = (uint16_t)(sequence - self->highest);
        if (ahead > 0 && ahead < 0x8000) {
            if (sequence < self->highest) self->cycles += 1 << 16;
            self->highest = sequence;
        }
    }
    /* Through 64 bits: a clock beyond 2^32 units is not undefined. */
    long long transit = (uint32_t)((uint32_t)(uint64_t)(long long)(arrival * OPUS_CLOCK) - timestamp);
    if (self->transit >= 0) {
        long long delta = transit > self->transit ? transit - self->transit : self->transit - transit;
        if (delta < OPUS_CLOCK * 2) self->jitter += ((double)delta - self->jitter) / 16; /* else a new base */
    }
    self->transit = transit;
}

/* Take extension and contributing sources out; the new size, 0 if lengths do not add up. */
static int strip_extension(int size) {
    int at = HEADER + 4 * (data[0] & 0x0F);
    if (data[0] & 0x10) {
        if (size < at + 4) return 0;
        at += 4 + 4 * get16(data + at + 2);
    }
    if (size < at) return 0;
    memmove(data + HEADER, data + at, (size_t)(size - at));
    data[0] &= 0xE0;
    return HEADER + size - at;
}

/* Rewriter.rewrite: the outgoing stream's header; the new size, 0 if malformed or if the number was used. */
static int rewrite(Forwarder *self, int size) {
    if (data[0] & 0x1F && !(size = strip_extension(size))) return 0;
    uint16_t sequence = get16(data + 2);
    uint32_t timestamp = get32(data + 4), source = get32(data + 8);
    if (source != self->rewritten_source) {
        if (self->rewritten_source == NONE) {
            self->highest_sent = sequence;
        } else {
            self->sequence_offset = (uint16_t)(self->highest_sent + 1 - sequence);
            self->floor = (uint16_t)(self->highest_sent + 1);
            self->timestamp_offset = self->newest_timestamp + OPUS_CLOCK / 50 - timestamp;
        }
        self->rewritten_source = source;
    }
    sequence = (uint16_t)(sequence + self->sequence_offset);
    timestamp += self->timestamp_offset;
    if (self->floor != NONE) {
        uint16_t ahead = (uint16_t)(sequence - self->floor);
        if (ahead > LATE_PACKETS && ahead < 0x8000) self->floor = NONE;
        if (ahead >= 0x8000) return 0;
    }
    if ((uint16_t)(sequence - self->highest_sent) < 0x8000) {
        self->highest_sent = sequence;
        self->newest_timestamp = timestamp;
    }
    data[1] = (uint8_t)((data[1] & 0x80) | self->payload_type);
    put16(data + 2, sequence);
    put32(data + 4, timestamp);
    put32(data + 8, self->ssrc);
    return size;
}

/* Send the packet in the buffer; 0, or -1 with an exception. The caller holds `self`. */
static int send_packet(Forwarder *self, int size) {
    if (!self->transmit) return count_drop(self->dropped, OTHER_LEG_NOT_READY);
    if (!(size = rewrite(self, size))) return count_drop(self->dropped, MALFORMED);
    int length = size, sent = 0;
    if (srtp_protect(self->transmit_context, data, &length) == 0 && length > 0 && length <= packet.len) {
        PyObject *send = self->send_datagram;
        if (!send) {
            PyErr_SetString(PyExc_AttributeError, "send_datagram");
            return -1;
        }
        if (Py_IS_TYPE(send, &SenderType)) {
            sent = sender_send((Sender *)send, data, (size_t)length);
        } else {
            /* TCP and TURN: Python, which may put another in its place while it runs. */
            called = 1;
            Py_INCREF(send);
            PyObject *piece = PySequence_GetSlice(view, 0, length);
            PyObject *result = piece ? PyObject_CallOneArg(send, piece) : NULL;
            Py_XDECREF(piece);
            Py_DECREF(send);
            sent = result ? PyObject_IsTrue(result) : -1;
            Py_XDECREF(result);
            if (sent < 0) return -1;
        }
    }
    if (!sent) return count_drop(self->dropped, SEND_FAILED);
    self->packets_out++;
    self->bytes_out += (unsigned)(size - HEADER);
    self->last_sent_at = monotonic();
    return 0;
}

int take_packet(Forwarder *self, int size, double arrival) {
    int cause;
    if (!self->receive) {
        cause = NOT_READY;
        goto drop;
    }
    uint16_t sequence = get16(data + 2);
    uint32_t timestamp = get32(data + 4), ssrc = get32(data + 8);
    if ((data[1] & 0x7F) != self->payload_type) {
        cause = PAYLOAD_TYPE;
        goto drop;
    }
    if (++self->window_packets > self->packets_per_second) {
        cause = RATE;
        goto drop;
    }
    /* libsrtp keeps a context for every SSRC it authenticated. */
    if (ssrc != self->source && self->sources >= SOURCES_ALLOWED) {
        cause = SSRC;
        goto drop;
    }
    int status = srtp_unprotect(self->receive_context, data, &size);
    if (status || size < HEADER || size > read_bytes) {
        cause = status == REPLAY_FAIL || status == REPLAY_OLD ? REPLAY : NOT_AUTHENTIC;
        goto drop;
    }
    if (ssrc != self->source) {
        self->lost_before += lost(self);
        begin_reception(self);
        self->source = ssrc;
        self->sources++;
    }
    self->packets_in++;
    self->bytes_in += (unsigned)size;
    note_reception(self, sequence, timestamp, arrival);
    int result = 0;
    Py_INCREF(self);
    if (self->target) {
        Forwarder *target = (Forwarder *)Py_NewRef(self->target);
        result = send_packet(target, size);
        Py_DECREF(target);
    } else if (self->forward == Py_None) {
        result = count_drop(self->dropped, OTHER_LEG_NOT_READY);
    } else {
        called = 1;
        PyObject *forward = Py_NewRef(self->forward), *number = PyLong_FromLong(size);
        PyObject *done = number ? PyObject_CallOneArg(forward, number) : NULL;
        Py_XDECREF(number);
        Py_DECREF(forward);
        Py_XDECREF(done);
        result = done ? 0 : -1;
    }
    Py_DECREF(self);
    return result < 0 ? -1 : 1;
drop:
    return count_drop(self->dropped, cause);
}

/* A size that Python says is in the buffer; -1 with an exception. */
static int checked_size(PyObject *number) {
    long size = PyLong_AsLong(number);
    if (size == -1 && PyErr_Occurred()) return -1;
    if (size >= HEADER && size <= read_bytes) return (int)size;
    PyErr_SetString(PyExc_ValueError, "no size of a packet");
    return -1;
}

static PyObject *forwarder_on_packet(Forwarder *self, PyObject *const *args, Py_ssize_t count) {
    if (count < 1 || count > 2) return PyErr_Format(PyExc_TypeError, "size and arrival");
    int size = checked_size(args[0]);
    double arrival = size < 0 ? 0 : count == 2 && args[1] != Py_None ? PyFloat_AsDouble(args[1]) : monotonic();
    if (size < 0 || PyErr_Occurred()) return NULL;
    /* What has no place in 64 bits of samples is no time. */
    if (!(arrival > -1e12 && arrival < 1e12)) return PyErr_Format(PyExc_ValueError, "no time of arrival");
    int taken = take_packet(self, size, arrival);
    return taken < 0 ? NULL : PyBool_FromLong(taken);
}

static PyObject *forwarder_send(Forwarder *self, PyObject *number) {
    int size = checked_size(number);
    if (size < 0 || send_packet(self, size) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *forwarder_start(Forwarder *self, PyObject *args) {
    PyObject *receive, *transmit;
    int payload_type;
    if (!PyArg_ParseTuple(args, "OOi", &receive, &transmit, &payload_type)) return NULL;
    void *contexts[2] = {NULL, NULL};
    PyObject *given[2] = {receive, transmit};
    for (int at = 0; at < 2; at++) {
        PyObject *address = PyObject_GetAttrString(given[at], "address");
        if (!address) return NULL;
        contexts[at] = PyLong_AsVoidPtr(address);
        Py_DECREF(address);
        if (!contexts[at]) return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "no SRTP context");
    }
    self->receive_context = contexts[0], self->transmit_context = contexts[1];
    self->payload_type = payload_type;
    Py_XSETREF(self->receive, Py_NewRef(receive));
    Py_XSETREF(self->transmit, Py_NewRef(transmit));
    Py_RETURN_NONE;
}

static PyObject *forwarder_expect_other_source(Forwarder *self, PyObject *Py_UNUSED(nothing)) {
    if (self->rewritten_source != NONE) self->rewritten_source = ANOTHER_SOURCE;
    Py_RETURN_NONE;
}

static PyObject *forwarder_open_window(Forwarder *self, PyObject *Py_UNUSED(nothing)) {
    self->window_packets = 0;
    Py_RETURN_NONE;
}

static PyObject *forwarder_within_rate(Forwarder *self, PyObject *Py_UNUSED(nothing)) {
    return PyBool_FromLong(++self->window_packets <= self->packets_per_second);
}

static PyObject *forwarder_take_report(Forwarder *self, PyObject *Py_UNUSED(nothing)) {
    long long all = expected(self), due = all - self->expected_prior, fraction = 0;
    long long missing = due - (self->received - self->received_prior);
    self->expected_prior = all, self->received_prior = self->received;
    if (due > 0 && missing > 0) fraction = missing * 256 / due < 255 ? missing * 256 / due : 255;
    return Py_BuildValue("LLLL", fraction, lost(self), (self->cycles + self->highest) & 0xFFFFFFFF,
                         (long long)self->jitter);
}

static PyObject *get_source(Forwarder *self, void *Py_UNUSED(closure)) {
    if (self->source < 0) Py_RETURN_NONE;
    return PyLong_FromLongLong(self->source);
}

static PyObject *get_last_sent_at(Forwarder *self, void *Py_UNUSED(closure)) {
    if (self->last_sent_at < 0) Py_RETURN_NONE;
    return PyFloat_FromDouble(self->last_sent_at);
}

static PyObject *get_lost(Forwarder *self, void *Py_UNUSED(closure)) {
    return PyLong_FromLongLong(self->lost_before + lost(self));
}

static PyObject *get_jitter(Forwarder *self, void *Py_UNUSED(closure)) {
    return PyFloat_FromDouble(self->jitter / OPUS_CLOCK);
}

static PyObject *get_forward(Forwarder *self, void *Py_UNUSED(closure)) { return Py_NewRef(self->forward); }

static int set_forward(Forwarder *self, PyObject *forward, void *Py_UNUSED(closure)) {
    if (!forward || (forward != Py_None && !PyCallable_Check(forward))) {
        PyErr_SetString(PyExc_TypeError, "forward takes a size");
        return -1;
    }
    int is_send = PyCFunction_CheckExact(forward) && PyCFunction_GET_FUNCTION(forward) == (PyCFunction)forwarder_send;
    self->target = is_send ? (Forwarder *)PyCFunction_GET_SELF(forward) : NULL;
    Py_XSETREF(self->forward, Py_NewRef(forward));
    return 0;
}

static int forwarder_traverse(PyObject *op, visitproc visit, void *arg) {
    Forwarder *self = (Forwarder *)op;
    Py_VISIT(self->forward);
    Py_VISIT(self->send_datagram);
    Py_VISIT(self->dropped);
    Py_VISIT(self->receive);
    Py_VISIT(self->transmit);
    return 0;
}

static int forwarder_clear(PyObject *op) {
    Forwarder *self = (Forwarder *)op;
    self->target = NULL;
    /* Stays callable: what is called must never be NULL. */
    Py_XSETREF(self->forward, Py_NewRef(Py_None));
    Py_XSETREF(self->send_datagram, Py_NewRef(Py_None));
    return 0;
}

static void forwarder_dealloc(PyObject *op) {
    Forwarder *self = (Forwarder *)op;
    PyObject_GC_UnTrack(op);
    if (self->weakrefs) PyObject_ClearWeakRefs(op);
    Py_XDECREF(self->forward);
    Py_XDECREF(self->send_datagram);
    Py_XDECREF(self->dropped);
    Py_XDECREF(self->receive);
    Py_XDECREF(self->transmit);
    PyObject_GC_Del(op);
}

static PyObject *forwarder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *send_datagram, *dropped;
    unsigned int ssrc;
    long long packets_per_second;
    if (kwargs && PyDict_GET_SIZE(kwargs)) return PyErr_Format(PyExc_TypeError, "no keywords");
    if (!PyArg_ParseTuple(args, "IOLO!", &ssrc, &send_datagram, &packets_per_second, &PyDict_Type, &dropped))
        return NULL;
    Forwarder *self = (Forwarder *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->forward = Py_NewRef(Py_None);
    self->send_datagram = Py_NewRef(send_datagram);
    self->dropped = Py_NewRef(dropped);
    self->ssrc = ssrc;
    self->packets_per_second = packets_per_second;
    self->payload_type = self->floor = NONE;
    self->source = self->rewritten_source = NONE;
    self->last_sent_at = -1;
    begin_reception(self);
    return (PyObject *)self;
}

static PyMethodDef forwarder_methods[] = {
    {"start", (PyCFunction)forwarder_start, METH_VARARGS, NULL},
    {"on_packet", (PyCFunction)(void (*)(void))forwarder_on_packet, METH_FASTCALL, NULL},
    {"send", (PyCFunction)forwarder_send, METH_O, NULL},
    {"expect_other_source", (PyCFunction)forwarder_expect_other_source, METH_NOARGS, NULL},
    {"open_window", (PyCFunction)forwarder_open_window, METH_NOARGS, NULL},
    {"within_rate", (PyCFunction)forwarder_within_rate, METH_NOARGS, NULL},
    {"take_report", (PyCFunction)forwarder_take_report, METH_NOARGS, NULL},
    {NULL},
};

static PyMemberDef forwarder_members[] = {
    {"packets_in", T_ULONGLONG, offsetof(Forwarder, packets_in), READONLY},
    {"bytes_in", T_ULONGLONG, offsetof(Forwarder, bytes_in), READONLY},
    {"packets_out", T_ULONGLONG, offsetof(Forwarder, packets_out), READONLY},
    {"bytes_out", T_ULONGLONG, offsetof(Forwarder, bytes_out), READONLY},
    {"newest_timestamp", T_UINT, offsetof(Forwarder, newest_timestamp), READONLY},
    {"dropped", T_OBJECT_EX, offsetof(Forwarder, dropped), READONLY},
    {"send_datagram", T_OBJECT_EX, offsetof(Forwarder, send_datagram), 0},
    {NULL},
};

static PyGetSetDef forwarder_getset[] = {
    {"source", (getter)get_source},
    {"last_sent_at", (getter)get_last_sent_at},
    {"lost", (getter)get_lost},
    {"jitter_seconds", (getter)get_jitter},
    {"forward", (getter)get_forward, (setter)set_forward},
    {NULL},
};

PyTypeObject ForwarderType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "relay.rtc._forwarding.Forwarder",
    .tp_basicsize = sizeof(Forwarder),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "The RTP of one leg; see forwarding_python.",
    .tp_new = forwarder_new,
    .tp_dealloc = forwarder_dealloc,
    .tp_traverse = forwarder_traverse,
    .tp_clear = forwarder_clear,
    .tp_weaklistoffset = offsetof(Forwarder, weakrefs),
    .tp_methods = forwarder_methods,
    .tp_members = forwarder_members,
    .tp_getset = forwarder_getset,
};
