/* Reader: a UDP socket; Sender: one address behind it. */

#include "forwarding.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <string.h>

/* An address in one form, comparable as bytes: IPv4 in the first four bytes. */
typedef struct {
    uint8_t ip[16];
    uint32_t scope;
    uint16_t port; /* network order */
    uint16_t family;
} Key;

struct Route {
    Key key;
    PyObject *forwarder; /* NULL: a free slot */
    PyObject *send;
    PyObject *moved; /* or None */
};

/* --- Sender ------------------------------------------------------------------------------------------------------- */

static PyObject *sender_call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    Py_buffer bytes;
    if (PyVectorcall_NARGS(nargsf) != 1 || (kwnames && PyTuple_GET_SIZE(kwnames))) {
        PyErr_SetString(PyExc_TypeError, "one datagram");
        return NULL;
    }
    if (PyObject_GetBuffer(args[0], &bytes, PyBUF_SIMPLE) < 0) return NULL;
    int sent = sender_send((Sender *)self, bytes.buf, (size_t)bytes.len);
    PyBuffer_Release(&bytes);
    return PyBool_FromLong(sent);
}

static int sender_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(((Sender *)self)->reader);
    return 0;
}

static void sender_dealloc(PyObject *self) {
    PyObject_GC_UnTrack(self);
    Py_DECREF(((Sender *)self)->reader); /* never cleared before: a sender without a reader cannot be called */
    PyObject_GC_Del(self);
}

PyTypeObject SenderType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "relay.rtc._forwarding.Sender",
    .tp_basicsize = sizeof(Sender),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
                Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "Sends one datagram to one address; False if the kernel does not take it.",
    .tp_vectorcall_offset = offsetof(Sender, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_traverse = sender_traverse,
    .tp_dealloc = sender_dealloc,
};

/* --- addresses and routes ----------------------------------------------------------------------------------------- */

static void key_of(const struct sockaddr_storage *address, Key *key) {
    memset(key, 0, sizeof *key);
    key->family = address->ss_family;
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
        memcpy(key->ip, &v4->sin_addr, 4);
        key->port = v4->sin_port;
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
        memcpy(key->ip, &v6->sin6_addr, 16);
        key->port = v6->sin6_port, key->scope = v6->sin6_scope_id;
    }
}

/* A Python address, (host, port) or (host, port, flow, scope), as the kernel wants it; its length, 0: exception. */
static socklen_t parse_address(PyObject *address, struct sockaddr_storage *into) {
    const char *host;
    char literal[INET6_ADDRSTRLEN] = {0};
    int port;
    unsigned int flow = 0, scope = 0;
    memset(into, 0, sizeof *into);
    if (!PyTuple_Check(address)) {
        PyErr_SetString(PyExc_TypeError, "an address is a tuple");
        return 0;
    }
    if (!PyArg_ParseTuple(address, "si|II", &host, &port, &flow, &scope)) return 0;
    size_t size = strcspn(host, "%"); /* a scope's name; its number comes as the fourth value */
    struct sockaddr_in *v4 = (struct sockaddr_in *)into;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)into;
    if (size < sizeof literal && port >= 0 && port <= 65535) {
        memcpy(literal, host, size);
        if (inet_pton(AF_INET, literal, &v4->sin_addr) == 1) {
            v4->sin_family = AF_INET, v4->sin_port = htons((uint16_t)port);
            return sizeof *v4;
        }
        if (inet_pton(AF_INET6, literal, &v6->sin6_addr) == 1) {
            v6->sin6_family = AF_INET6, v6->sin6_port = htons((uint16_t)port);
            v6->sin6_flowinfo = htonl(flow), v6->sin6_scope_id = scope;
            return sizeof *v6;
        }
    }
    PyErr_SetString(PyExc_ValueError, "not a numeric address and port");
    return 0;
}

/* The tuple that the socket module makes of an address. */
static PyObject *address_tuple(const struct sockaddr_storage *from) {
    char host[INET6_ADDRSTRLEN];
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)from;
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        return Py_BuildValue("si", host, (int)ntohs(v4->sin_port));
    }
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)from;
    inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
    return Py_BuildValue("siII", host, (int)ntohs(v6->sin6_port), ntohl(v6->sin6_flowinfo), v6->sin6_scope_id);
}

static size_t slot_of(const Reader *self, const Key *key) {
    /* FNV-1a. Only proven addresses are in the table, a few for each session: nobody fills it to slow others down. */
    uint64_t hash = 14695981039346656037u;
    const uint8_t *bytes = (const uint8_t *)key;
    for (size_t at = 0; at < sizeof *key; at++) hash = (hash ^ bytes[at]) * 1099511628211u;
    return (size_t)(hash >> 16) & (self->capacity - 1);
}

/* The route of an address; the free slot where it would be if there is none; NULL without a table. */
static Route *find_route(const Reader *self, const Key *key) {
    if (!self->capacity) return NULL;
    for (size_t at = slot_of(self, key);; at = (at + 1) & (self->capacity - 1)) {
        Route *route = &self->routes[at];
        if (!route->forwarder || memcmp(&route->key, key, sizeof *key) == 0) return route;
    }
}

static int grow_routes(Reader *self) {
    Route *before = self->routes;
    size_t size = self->capacity, capacity = size ? size * 2 : 2;
    Route *routes = PyMem_Calloc(capacity, sizeof *routes);
    if (!routes) {
        PyErr_NoMemory();
        return -1;
    }
    self->routes = routes, self->capacity = capacity;
    for (size_t at = 0; at < size; at++)
        if (before[at].forwarder) *find_route(self, &before[at].key) = before[at];
    PyMem_Free(before);
    return 0;
}

static void release_route(Route old) {
    Py_XDECREF(old.forwarder);
    Py_XDECREF(old.send);
    Py_XDECREF(old.moved);
}

static PyObject *reader_direct(Reader *self, PyObject *args) {
    PyObject *address, *forwarder, *send, *moved;
    struct sockaddr_storage parsed;
    Key key;
    if (!PyArg_ParseTuple(args, "OO!OO", &address, &ForwarderType, &forwarder, &send, &moved)) return NULL;
    if (!parse_address(address, &parsed)) return NULL;
    if (self->fd < 0) Py_RETURN_NONE;
    key_of(&parsed, &key);
    if (self->used * 2 >= self->capacity && grow_routes(self) < 0) return NULL;
    Route *route = find_route(self, &key);
    Route old = *route;
    self->used += !old.forwarder;
    *route = (Route){key, Py_NewRef(forwarder), Py_NewRef(send), Py_NewRef(moved)};
    release_route(old); /* last: it may run Python */
    Py_RETURN_NONE;
}

static PyObject *reader_undirect(Reader *self, PyObject *address) {
    struct sockaddr_storage parsed;
    Key key;
    if (!parse_address(address, &parsed)) return NULL;
    key_of(&parsed, &key);
    Route *route = find_route(self, &key);
    if (!route || !route->forwarder) Py_RETURN_NONE;
    Route old = *route;
    memset(route, 0, sizeof *route);
    self->used--;
    /* Those behind it may have been put there because its slot was taken: put them anew. */
    for (size_t at = (size_t)(route - self->routes);;) {
        at = (at + 1) & (self->capacity - 1);
        Route moved = self->routes[at];
        if (!moved.forwarder) break;
        memset(&self->routes[at], 0, sizeof moved);
        *find_route(self, &moved.key) = moved;
    }
    release_route(old);
    Py_RETURN_NONE;
}

/* --- Reader ------------------------------------------------------------------------------------------------------- */

static int reader_traverse(PyObject *op, visitproc visit, void *arg) {
    Reader *self = (Reader *)op;
    Py_VISIT(self->socket);
    Py_VISIT(self->on_read);
    Py_VISIT(self->dropped);
    Py_VISIT(self->fault);
    for (size_t at = 0; at < self->capacity; at++) {
        Py_VISIT(self->routes[at].forwarder);
        Py_VISIT(self->routes[at].send);
        Py_VISIT(self->routes[at].moved);
    }
    return 0;
}

static void forget_routes(Reader *self) {
    Route *routes = self->routes;
    size_t capacity = self->capacity;
    self->routes = NULL, self->capacity = self->used = 0;
    for (size_t at = 0; at < capacity; at++) release_route(routes[at]);
    PyMem_Free(routes);
}

static int reader_clear(PyObject *op) {
    Reader *self = (Reader *)op;
    self->fd = -1; /* what would be called is gone */
    forget_routes(self);
    Py_CLEAR(self->socket);
    Py_CLEAR(self->on_read);
    Py_CLEAR(self->dropped);
    Py_CLEAR(self->fault);
    return 0;
}

static void reader_dealloc(PyObject *self) {
    PyObject_GC_UnTrack(self);
    reader_clear(self);
    PyObject_GC_Del(self);
}

static PyObject *reader_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *sock, *on_read, *dropped, *fault;
    int reads;
    if (kwargs && PyDict_GET_SIZE(kwargs)) return PyErr_Format(PyExc_TypeError, "no keywords");
    if (!PyArg_ParseTuple(args, "OOO!iO", &sock, &on_read, &PyDict_Type, &dropped, &reads, &fault)) return NULL;
    int fd = PyObject_AsFileDescriptor(sock);
    if (fd < 0) return NULL;
    Reader *self = (Reader *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->fd = fd, self->reads = reads;
    self->socket = Py_NewRef(sock), self->on_read = Py_NewRef(on_read);
    self->dropped = Py_NewRef(dropped), self->fault = Py_NewRef(fault);
    return (PyObject *)self;
}

static PyObject *reader_sender(Reader *self, PyObject *address) {
    struct sockaddr_storage parsed;
    socklen_t length = 0;
    if (address != Py_None && !(length = parse_address(address, &parsed))) return NULL;
    Sender *sender = PyObject_GC_New(Sender, &SenderType);
    if (!sender) return NULL;
    sender->vectorcall = sender_call;
    sender->reader = (Reader *)Py_NewRef(self);
    if (length) memcpy(&sender->address, &parsed, sizeof parsed);
    sender->length = length;
    PyObject_GC_Track(sender);
    return (PyObject *)sender;
}

/* Asking for the source costs nothing here, so that nothing changes when the socket is connected. */
static PyObject *reader_settle(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(address)) { Py_RETURN_NONE; }

static PyObject *reader_close(Reader *self, PyObject *Py_UNUSED(nothing)) {
    self->fd = -1;
    forget_routes(self);
    Py_RETURN_NONE;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

/* Hand the exception of one datagram to `fault`: it must not cost anybody else theirs. -1 if it is to end the loop. */
static int report_fault(Reader *self) {
    PyObject *type, *error, *trace;
    if (!PyErr_ExceptionMatches(PyExc_Exception) || !self->fault) return -1;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    if (trace) PyException_SetTraceback(error, trace);
    called = 1;
    PyObject *fault = Py_NewRef(self->fault), *dropped = Py_NewRef(self->dropped);
    PyObject *done = PyObject_CallFunctionObjArgs(fault, dropped, error, NULL);
    Py_DECREF(fault);
    Py_DECREF(dropped);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(trace);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

/* RTP version 2 of usable length, and no RTCP (RFC 5761 section 4). */
static int is_rtp(ssize_t size) {
    return size >= HEADER && size <= MAX_DATAGRAM && (data[0] & 0xC0) == 0x80 && (data[1] & 0xE0) != 0xC0;
}

/* One datagram; 0, or -1 with an exception. */
static int on_datagram(Reader *self, int size, const struct sockaddr_storage *from) {
    if (is_rtp(size) && self->capacity) {
        Key key;
        key_of(from, &key);
        Route *route = find_route(self, &key);
        if (route && route->forwarder) {
            Forwarder *forwarder = (Forwarder *)Py_NewRef(route->forwarder);
            PyObject *send = Py_NewRef(route->send), *moved = Py_NewRef(route->moved);
            int taken = take_packet(forwarder, size, monotonic());
            if (taken > 0 && !forwarder->send_datagram) {
                PyErr_SetString(PyExc_AttributeError, "send_datagram");
                taken = -1;
            }
            if (taken > 0 && forwarder->send_datagram != send && moved != Py_None) {
                called = 1;
                PyObject *done = PyObject_CallNoArgs(moved);
                taken = done ? 1 : -1;
                Py_XDECREF(done);
            }
            Py_DECREF(forwarder);
            Py_DECREF(send);
            Py_DECREF(moved);
            return taken < 0 ? -1 : 0;
        }
    }
    called = 1;
    PyObject *on_read = Py_NewRef(self->on_read), *address = address_tuple(from), *done = NULL;
    if (address) done = PyObject_CallFunction(on_read, "iO", size, address);
    Py_DECREF(on_read);
    Py_XDECREF(address);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

int read_some(Reader *self) {
    for (int left = self->reads; left > 0 && self->fd >= 0; left--) {
        struct sockaddr_storage from;
        socklen_t length = sizeof from;
        ssize_t size;
        do size = recvfrom(self->fd, data, (size_t)read_bytes, MSG_DONTWAIT, (struct sockaddr *)&from, &length);
        while (size < 0 && errno == EINTR);
        /* Nothing there, or an ICMP error of an earlier send; the consent checks decide what it means. */
        if (size < 0) return 0;
        if (length < sizeof(struct sockaddr_in)) continue;
        if (on_datagram(self, (int)size, &from) < 0 && report_fault(self) < 0) return -1;
    }
    return 0;
}

static PyObject *reader_read(Reader *self, PyObject *Py_UNUSED(nothing)) {
    Py_INCREF(self);
    int result = read_some(self);
    Py_DECREF(self);
    if (result < 0) return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef reader_methods[] = {
    {"direct", (PyCFunction)reader_direct, METH_VARARGS, NULL},
    {"undirect", (PyCFunction)reader_undirect, METH_O, NULL},
    {"sender", (PyCFunction)reader_sender, METH_O, NULL},
    {"read", (PyCFunction)reader_read, METH_NOARGS, NULL},
    {"settle", (PyCFunction)reader_settle, METH_O, NULL},
    {"close", (PyCFunction)reader_close, METH_NOARGS, NULL},
    {NULL},
};

PyTypeObject ReaderType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "relay.rtc._forwarding.Reader",
    .tp_basicsize = sizeof(Reader),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "Reads a UDP socket into the packet buffer; see forwarding_python.",
    .tp_new = reader_new,
    .tp_dealloc = reader_dealloc,
    .tp_traverse = reader_traverse,
    .tp_clear = reader_clear,
    .tp_methods = reader_methods,
};
