/* SPDX-License-Identifier: BSD-3-Clause */
/* Data sets: what CSV, .npy and IDX files hold, and where they are wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rdtrain/train.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A copy of exactly these bytes, so that a sanitizer sees a read beyond them. */
static int parse(const char *name, const void *bytes, size_t n, rdt_dataset **d, void **copy)
{
	*copy = malloc(n ? n : 1);
	assert_non_null(*copy);
	memcpy(*copy, bytes, n);
	return rdt_dataset_parse(name, *copy, n, d);
}

static void expect_refused(const char *name, const void *bytes, size_t n, const char *place,
			   const char *words)
{
	char expected[128];
	rdt_dataset *d;
	void *copy;

	if (parse(name, bytes, n, &d, &copy) != RDT_ERR_INVALID)
		fail_msg("accepted, where it should say \"%s\"", words);
	assert_null(d);
	snprintf(expected, sizeof(expected), "%s%s", name, place);
	if (strncmp(rdt_last_error(), expected, strlen(expected)) != 0 ||
	    !strstr(rdt_last_error(), words))
		fail_msg("\"%s\" instead of \"%s ... %s\"", rdt_last_error(), expected, words);
	free(copy);
}

/* ---- csv --------------------------------------------------------------------------------- */

static void a_table_is_read_with_either_line_end(void **state)
{
	static const char *const texts[] = { "1.5,-2,0\n3e1,4,2\n", "1.5,-2,0\r\n3e1,4,2\r\n",
					     "1.5,-2,0\n3e1,4,2", "1.5,-2,0\n3e1,4,2.0e0\n" };

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		const struct rdt_dataset_info *info;
		float x[4];
		int32_t y[2];
		rdt_dataset *d;
		void *copy;

		assert_int_equal(parse("t", texts[i], strlen(texts[i]), &d, &copy), 0);
		info = rdt_dataset_info(d);
		assert_string_equal(info->format, "csv");
		assert_int_equal(info->rows, 2);
		assert_int_equal(info->columns, 3);
		assert_int_equal(info->n_dims, 2);
		assert_int_equal(info->type, RDT_FLOAT64);
		assert_true(((const double *)info->data)[3] == 30);
		assert_int_equal(rdt_dataset_read(d, NULL, 2, 0, 2, RDT_FLOAT32, x), 0);
		assert_true(x[0] == 1.5f && x[1] == -2 && x[2] == 30 && x[3] == 4);
		assert_int_equal(rdt_dataset_read(d, NULL, 2, 2, 1, RDT_INT32, y), 0);
		assert_true(y[0] == 0 && y[1] == 2);
		rdt_dataset_close(d);
		free(copy);
	}
}

static void a_long_table_is_read_to_its_end_and_in_any_order(void **state)
{
	enum { N = 5000 };
	uint64_t rows[N];
	char *text = NULL;
	size_t length = 0;
	rdt_dataset *d;
	int64_t v[3];
	FILE *to = open_memstream(&text, &length);

	(void)state;
	assert_non_null(to);
	for (int i = 0; i < N; i++)
		fprintf(to, "%d,%d,%d\n", i, -i, i % 10);
	assert_int_equal(fclose(to), 0);
	assert_int_equal(rdt_dataset_parse("t", text, length, &d), 0);
	free(text); /* a table has no use for its text any more */
	assert_int_equal(rdt_dataset_info(d)->rows, N);
	for (int i = N - 1; i >= 0; i--) {
		rows[0] = (uint64_t)i;
		assert_int_equal(rdt_dataset_read(d, rows, 1, 0, 3, RDT_INT64, v), 0);
		assert_true(v[0] == i && v[1] == -i && v[2] == i % 10);
	}
	rdt_dataset_close(d);
}

static void a_fault_is_told_with_line_and_column(void **state)
{
	static const struct {
		const char *text, *place, *words;
	} faults[] = {
		{ "1,2,0\n3,x4,1\n", ":2:2: ", "\"x4\" is not a number" },
		{ "age,sex,class\n", ":1:1: ", "no header line" },
		{ "1,2,0\n3,,1\n", ":2:2: ", "empty field" },
		{ "1,2,0\n3,4,\n", ":2:3: ", "empty field" },
		{ "1,nan,0\n", ":1:2: ", "not a number" },
		{ "1,0x10,0\n", ":1:2: ", "not a number" },
		{ "1, 2,0\n", ":1:2: ", "not a number" },
		{ "1,1e999,0\n", ":1:2: ", "too large" },
		{ "1,-,0\n", ":1:2: ", "not a number" },
		{ "1,2,0\n1,2,0\n3,1\n", ":3:2: ", "ends after 2 of 3 fields" },
		{ "1,2,0\n3,4,5,1\n", ":2:4: ", "more fields than the 3" },
		{ "1,2,0\n\n3,4,1\n", ":2:1: ", "empty line" },
		{ "1,\x1b[31m,0\n", ":1:2: ", "\"?[31m\" is not a number" },
		{ "", ": ", "the file is empty" },
	};
	char text[300];

	(void)state;
	for (size_t i = 0; i < COUNT(faults); i++)
		expect_refused("t.csv", faults[i].text, strlen(faults[i].text), faults[i].place,
			       faults[i].words);
	expect_refused("t.csv", "1,2\0,0\n", 7, ":1:1: ", "zero byte");
	memset(text, '1', sizeof(text));
	expect_refused("t.csv", text, sizeof(text), ":1:1: ", "a field of 300 characters");
}

static void a_value_that_does_not_fit_is_told_with_its_place(void **state)
{
	static const char text[] = "1,2,0\n1,1e99,0.5\n1,2,-1\n4,5,3e9\n";
	rdt_dataset *d;
	int32_t y[4];
	uint8_t u[4];
	float x[4];
	uint64_t row = 7;

	(void)state;
	assert_int_equal(rdt_dataset_parse("t.csv", text, sizeof(text) - 1, &d), 0);
	assert_int_equal(rdt_dataset_read(d, NULL, 4, 2, 1, RDT_INT32, y), RDT_ERR_INVALID);
	assert_string_equal(rdt_last_error(), "t.csv:2:3: 0.5 does not fit int32");
	assert_int_equal(rdt_dataset_read(d, (uint64_t[]){ 2, 3 }, 2, 2, 1, RDT_INT32, y),
			 RDT_ERR_INVALID);
	assert_string_equal(rdt_last_error(), "t.csv:4:3: 3000000000 does not fit int32");
	assert_int_equal(rdt_dataset_read(d, (uint64_t[]){ 2 }, 1, 2, 1, RDT_UINT8, u),
			 RDT_ERR_INVALID);
	assert_int_equal(rdt_dataset_read(d, NULL, 2, 1, 1, RDT_FLOAT32, x), RDT_ERR_INVALID);
	assert_string_equal(rdt_last_error(),
			    "t.csv:2:2: 9.9999999999999997e+98 does not fit float32");
	/* wrong calls */
	assert_int_equal(rdt_dataset_read(d, &row, 1, 0, 1, RDT_FLOAT32, x), RDT_ERR_INVALID);
	assert_non_null(strstr(rdt_last_error(), "row 7 was asked for, it has 4"));
	assert_int_equal(rdt_dataset_read(d, NULL, 5, 0, 1, RDT_FLOAT32, x), RDT_ERR_INVALID);
	assert_int_equal(rdt_dataset_read(d, NULL, 1, 2, 2, RDT_FLOAT32, x), RDT_ERR_INVALID);
	assert_int_equal(rdt_dataset_read(d, NULL, 1, 0, SIZE_MAX, RDT_FLOAT32, x),
			 RDT_ERR_INVALID);
	assert_int_equal(rdt_dataset_read(d, NULL, 1, 0, 1, RDT_FLOAT16, x), RDT_ERR_INVALID);
	assert_int_equal(rdt_dataset_read(d, NULL, 1, 0, 1, RDT_FLOAT32, NULL), RDT_ERR_INVALID);
	rdt_dataset_close(d);
}

/* ---- npy --------------------------------------------------------------------------------- */

/* Builds a file in `file`: the magic, the version, the length, the header, the data. */
static size_t npy(unsigned char *file, int version, const char *header, const void *data,
		  size_t n_data)
{
	size_t prefix = version == 1 ? 10 : 12, length = strlen(header);

	memcpy(file, "\x93NUMPY", 6);
	file[6] = (unsigned char)version;
	file[7] = 0;
	for (size_t i = 8; i < prefix; i++)
		file[i] = (unsigned char)(length >> 8 * (i - 8));
	memcpy(file + prefix, header, length);
	memcpy(file + prefix + length, data, n_data);
	return prefix + length + n_data;
}

static void npy_files_of_every_type_are_read(void **state)
{
	/* the values 1, -2, 3 (or 1, 2, 3 without a sign), as each type has them */
	static const struct {
		const char *descr;
		const char *data;
		size_t element;
		enum rdt_type type;
	} types[] = {
		{ "<f4", "\0\0\x80\x3f\0\0\0\xc0\0\0\x40\x40", 4, RDT_FLOAT32 },
		{ ">f4", "\x3f\x80\0\0\xc0\0\0\0\x40\x40\0\0", 4, RDT_FLOAT32 },
		{ "<f8", "\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\0\xc0\0\0\0\0\0\0\x08\x40", 8,
		  RDT_FLOAT64 },
		{ "|i1", "\1\xfe\3", 1, RDT_INT8 },
		{ "<i2", "\1\0\xfe\xff\3\0", 2, RDT_INT32 },
		{ ">i2", "\0\1\xff\xfe\0\3", 2, RDT_INT32 },
		{ "<i4", "\1\0\0\0\xfe\xff\xff\xff\3\0\0\0", 4, RDT_INT32 },
		{ ">i8", "\0\0\0\0\0\0\0\1\xff\xff\xff\xff\xff\xff\xff\xfe\0\0\0\0\0\0\0\3", 8,
		  RDT_INT64 },
		{ "|u1", "\1\2\3", 1, RDT_UINT8 },
		{ "<u2", "\1\0\2\0\3\0", 2, RDT_INT32 },
		{ "<u4", "\1\0\0\0\2\0\0\0\3\0\0\0", 4, RDT_UINT32 },
		{ "<u8", "\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0", 8, RDT_UINT64 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(types); i++) {
		double sign = strchr(types[i].descr, 'u') ? 1 : -1, real[3];
		const struct rdt_dataset_info *info;
		unsigned char file[256];
		char header[128];
		int64_t whole[3];
		rdt_dataset *d;
		void *copy;
		size_t n;

		snprintf(header, sizeof(header),
			 "{'descr': '%s', 'fortran_order': False, 'shape': (3,), }       \n",
			 types[i].descr);
		n = npy(file, 1 + (int)i % 3, header, types[i].data, 3 * types[i].element);
		if (parse("t.npy", file, n, &d, &copy))
			fail_msg("%s: %s", types[i].descr, rdt_last_error());
		info = rdt_dataset_info(d);
		assert_string_equal(info->format, "npy");
		assert_int_equal(info->rows, 3);
		assert_int_equal(info->columns, 1);
		assert_int_equal(info->type, types[i].type);
		if (types[i].descr[0] == '>' || strchr(types[i].descr, '2'))
			assert_null(info->data);
		assert_int_equal(rdt_dataset_read(d, NULL, 3, 0, 1, RDT_FLOAT64, real), 0);
		assert_int_equal(rdt_dataset_read(d, NULL, 3, 0, 1, RDT_INT64, whole), 0);
		assert_true(real[0] == 1 && real[1] == 2 * sign && real[2] == 3);
		assert_true(whole[0] == 1 && whole[1] == 2 * (int)sign && whole[2] == 3);
		rdt_dataset_close(d);
		free(copy);
	}
}

static void npy_dimensions_beyond_the_first_make_a_row(void **state)
{
	unsigned char file[256], data[24];
	uint64_t rows[] = { 1, 0, 1 };
	rdt_dataset *d;
	uint8_t v[6];
	size_t n;

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (unsigned char)i;
	n = npy(file, 1, "{\"shape\":(2,3,4),\"descr\":\"|u1\",\"fortran_order\":False}", data, 24);
	assert_int_equal(rdt_dataset_parse("t", file, n, &d), 0);
	assert_int_equal(rdt_dataset_info(d)->rows, 2);
	assert_int_equal(rdt_dataset_info(d)->columns, 12);
	assert_int_equal(rdt_dataset_info(d)->n_dims, 3);
	assert_int_equal(rdt_dataset_info(d)->dims[2], 4);
	assert_non_null(rdt_dataset_info(d)->data);
	assert_int_equal(rdt_dataset_read(d, rows, 3, 10, 2, RDT_UINT8, v), 0);
	assert_memory_equal(v, "\x16\x17\x0a\x0b\x16\x17", 6);
	rdt_dataset_close(d);
}

static void npy_faults_are_told_with_their_byte(void **state)
{
	static const struct {
		const char *header, *place, *words;
	} faults[] = {
		{ "{'descr': '<f2', 'fortran_order': False, 'shape': (3,)}",
		  ": byte 20: ", "type '<f2' cannot be read" },
		{ "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,)}",
		  ": byte 20: ", "arrays of records" },
		{ "{'descr': '<f4', 'fortran_order': True, 'shape': (3, 1)}",
		  ": byte 43: ", "ascontiguousarray" },
		{ "{'descr': '<f4', 'fortran_order': Maybe, 'shape': (3,)}",
		  ": byte 44: ", "neither True nor False" },
		{ "{'descr': '<f4', 'fortran_order': False, 'shape': (3,",
		  ": byte 63: ", "not a whole number" },
		{ "{'descr': '<f4', 'fortran_order': False, 'shape': (-3,)}",
		  ": byte 61: ", "not a whole number" },
		{ "{'descr': '<f4', 'fortran_order': False, 'shape': (3 3)}",
		  ": byte 63: ", "no ','" },
		{ "{'descr': '<f4', 'fortran_order': False, 'shape': ()}",
		  ": byte 59: ", "a single value" },
		{ "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3)}",
		  ": byte 59: ", "dimension 0 is 0" },
		{ "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
		  ": byte 61: ", "beyond 64 bits" },
		{ "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}",
		  ": byte 59: ", "beyond all memory" },
		{ "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}",
		  ": byte 77: ", "more than 8 dimensions" },
		{ "{'descr': '<f4', 'fortran_order': False, 'shape': (4,)}",
		  ": byte 77: ", "cut short: 12 bytes of data, not 16" },
		{ "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}",
		  ": byte 73: ", "4 bytes behind the data" },
		{ "{'descr': '<f4', 'fortran_order': False}", ": byte 50: ", "no \"shape\"" },
		{ "{'descr': '<f4', 'descr': '<f4'}", ": byte 27: ", "there twice" },
		{ "{'what': 3}", ": byte 11: ", "unknown" },
		{ "{'descr' '<f4'}", ": byte 19: ", "no ':'" },
		{ "{'descr': '<f4' 'shape': (3,)}", ": byte 26: ", "no ','" },
		{ "{'descr: <f4", ": byte 12: ", "without an end" },
		{ "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)} x",
		  ": byte 66: ", "behind the header" },
		{ "", ": byte 10: ", "no '{'" },
	};
	unsigned char file[256];
	size_t n;

	(void)state;
	for (size_t i = 0; i < COUNT(faults); i++) {
		n = npy(file, 1, faults[i].header, "twelve bytes", 12);
		/* a header that is the end of the file must not be read beyond */
		if (i == 4 || i == 19)
			n -= 12;
		expect_refused("t.npy", file, n, faults[i].place, faults[i].words);
	}
	n = npy(file, 1, "{'descr': '|u1', 'fortran_order': False, 'shape': (2,)}", "ab", 2);
	for (size_t cut = 1; cut < n; cut++) {
		rdt_dataset *d;
		void *copy;

		assert_int_equal(parse("t.npy", file, cut, &d, &copy), RDT_ERR_INVALID);
		assert_int_equal(strncmp(rdt_last_error(), "t.npy: byte ", 12), 0);
		free(copy);
	}
	file[6] = 4;
	expect_refused("t.npy", file, n, ": byte 6: ", "version 4");
	expect_refused("t.npy", "1,2,3\n1,2,3\n", 12, ": byte 0: ", "begins with");
}

/* ---- idx --------------------------------------------------------------------------------- */

static void idx_files_of_every_type_are_read(void **state)
{
	static const struct {
		const char
			*bytes; /* the dimension is 2, the values 1 and -2 (without a sign 254) */
		size_t n;
		enum rdt_type type;
	} files[] = {
		{ "\0\0\x08\1\0\0\0\2\1\xfe", 10, RDT_UINT8 },
		{ "\0\0\x09\1\0\0\0\2\1\xfe", 10, RDT_INT8 },
		{ "\0\0\x0b\1\0\0\0\2\0\1\xff\xfe", 12, RDT_INT32 },
		{ "\0\0\x0c\1\0\0\0\2\0\0\0\1\xff\xff\xff\xfe", 16, RDT_INT32 },
		{ "\0\0\x0d\1\0\0\0\2\x3f\x80\0\0\xc0\0\0\0", 16, RDT_FLOAT32 },
		{ "\0\0\x0e\1\0\0\0\2\x3f\xf0\0\0\0\0\0\0\xc0\0\0\0\0\0\0\0", 24, RDT_FLOAT64 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(files); i++) {
		rdt_dataset *d;
		double v[2];
		void *copy;

		if (parse("labels-idx1-ubyte", files[i].bytes, files[i].n, &d, &copy))
			fail_msg("type %zu: %s", i, rdt_last_error());
		assert_string_equal(rdt_dataset_info(d)->format, "idx");
		assert_int_equal(rdt_dataset_info(d)->type, files[i].type);
		assert_int_equal(rdt_dataset_read(d, NULL, 2, 0, 1, RDT_FLOAT64, v), 0);
		assert_true(v[0] == 1 && v[1] == (i == 0 ? 254 : -2));
		rdt_dataset_close(d);
		free(copy);
		for (size_t cut = 1; cut < files[i].n; cut++) {
			assert_int_equal(parse("t.idx", files[i].bytes, cut, &d, &copy),
					 RDT_ERR_INVALID);
			free(copy);
		}
	}
}

static void idx_faults_are_told_with_their_byte(void **state)
{
	(void)state;
	expect_refused("t", "\0\0\x0a\1\0\0\0\1x", 9, ": byte 2: ", "0x0a is no type");
	expect_refused("t", "\0\0\x08\0", 4, ": byte 3: ", "0 dimensions");
	expect_refused("t", "\0\0\x08\x09", 4, ": byte 3: ", "9 dimensions");
	expect_refused("t", "\0\0\x08\2\0\0\0\2\0\0\0", 11,
		       ": byte 11: ", "within its 2 dimensions");
	expect_refused("t", "\0\0\x08\1\0\0\0\0", 8, ": byte 4: ", "dimension 0 is 0");
	expect_refused("t", "\0\0\x08\1\0\0\0\3ab", 10, ": byte 10: ", "2 bytes of data, not 3");
	expect_refused("t", "\0\0\x08\1\0\0\0\1ab", 10, ": byte 9: ", "1 bytes behind");
	expect_refused("t", "\0\0\x0e\3\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 16,
		       ": byte 4: ", "beyond all memory");
	expect_refused("train-images-idx3-ubyte", "1,2\n", 4, ": byte 0: ", "two zero bytes");
}

static void a_value_out_of_a_binary_file_is_told_with_its_byte(void **state)
{
	static const char bytes[] = "\0\0\x0d\1\0\0\0\2\x3f\x80\0\0\x3f\0\0\0";
	rdt_dataset *d;
	int32_t v[2];

	(void)state;
	assert_int_equal(rdt_dataset_parse("t", bytes, 16, &d), 0);
	assert_int_equal(rdt_dataset_read(d, NULL, 2, 0, 1, RDT_INT32, v), RDT_ERR_INVALID);
	assert_string_equal(rdt_last_error(),
			    "t: byte 12: 0.5 (row 1, column 0) does not fit int32");
	rdt_dataset_close(d);
}

/* ---- files ------------------------------------------------------------------------------- */

static void files_are_opened_by_path(void **state)
{
	static const char idx[] = "\0\0\x08\1\0\0\0\3abc";
	char path[] = "/tmp/rdt_dataset_XXXXXX";
	int fd = mkstemp(path);
	rdt_dataset *d;
	uint8_t v[3];

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(rdt_dataset_open(path, &d), RDT_ERR_INVALID);
	assert_non_null(strstr(rdt_last_error(), "the file is empty"));
	assert_int_equal(write(fd, idx, 11), 11);
	close(fd);
	assert_int_equal(rdt_dataset_open(path, &d), 0);
	assert_int_equal(rdt_dataset_read(d, NULL, 3, 0, 1, RDT_UINT8, v), 0);
	assert_memory_equal(v, "abc", 3);
	rdt_dataset_close(d);
	unlink(path);
	assert_int_equal(rdt_dataset_open("/nonexistent/t.csv", &d), RDT_ERR_SYSTEM);
	assert_string_equal(rdt_last_error(), "/nonexistent/t.csv: No such file or directory");
	assert_int_equal(rdt_dataset_open("/", &d), RDT_ERR_INVALID);
	assert_string_equal(rdt_last_error(), "/: not a regular file");
	rdt_dataset_close(NULL);
}

/* For python.py: the format, rows and columns, then each element. */
static int print(const char *path)
{
	const struct rdt_dataset_info *info;
	rdt_dataset *d;
	double v;

	if (rdt_dataset_open(path, &d)) {
		fprintf(stderr, "%s\n", rdt_last_error());
		return 1;
	}
	info = rdt_dataset_info(d);
	printf("%s %zu %zu\n", info->format, (size_t)info->rows, (size_t)info->columns);
	for (uint64_t row = 0; row < info->rows; row++)
		for (uint64_t column = 0; column < info->columns; column++) {
			if (rdt_dataset_read(d, &row, 1, column, 1, RDT_FLOAT64, &v))
				return 1;
			printf("%.17g\n", v);
		}
	rdt_dataset_close(d);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_table_is_read_with_either_line_end),
		cmocka_unit_test(a_long_table_is_read_to_its_end_and_in_any_order),
		cmocka_unit_test(a_fault_is_told_with_line_and_column),
		cmocka_unit_test(a_value_that_does_not_fit_is_told_with_its_place),
		cmocka_unit_test(npy_files_of_every_type_are_read),
		cmocka_unit_test(npy_dimensions_beyond_the_first_make_a_row),
		cmocka_unit_test(npy_faults_are_told_with_their_byte),
		cmocka_unit_test(idx_files_of_every_type_are_read),
		cmocka_unit_test(idx_faults_are_told_with_their_byte),
		cmocka_unit_test(a_value_out_of_a_binary_file_is_told_with_its_byte),
		cmocka_unit_test(files_are_opened_by_path),
	};

	if (argc == 3)
		return print(argv[2]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
