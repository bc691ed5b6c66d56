/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Model parallelism: ranks in a grid, and who has what of a vector or a network.
 *
 *			model: ranks that share one copy of the model, each with a part of it
 *			   0  1  2
 *	data: copies	0  0  1  2	a row is one copy, with samples of its own
 *			1  3  4  5	a column is one part, averaged over the copies
 *
 * Ranks that follow each other are mostly on one host: a copy is a row because its parts talk in
 * every layer, and copies only once a step.
 */
#include <rdtrain/train.h>

#include <stdlib.h>

struct rdt_grid {
	rdt_comm *data, *model;
};

int rdt_grid_create(rdt_comm *comm, int copies, int parts, rdt_grid **out)
{
	rdt_grid *grid;
	int rank, size, status;

	if (!comm || !out)
		return rdt_set_error(RDT_ERR_INVALID, "rdt_grid_create: %s is NULL",
				     comm ? "grid" : "comm");
	*out = NULL;
	rank = rdt_comm_rank(comm);
	size = rdt_comm_size(comm);
	if (copies < 1 || parts < 1 || (long long)copies * parts != size)
		return rdt_set_error(RDT_ERR_INVALID,
				     "rdt_grid_create: %d copies of %d parts are not the %d ranks "
				     "of this communicator",
				     copies, parts, size);
	grid = calloc(1, sizeof(*grid));
	if (!grid)
		return rdt_set_error(RDT_ERR_NOMEM, "out of memory for a grid");
	status = rdt_comm_split(comm, rank / parts, rank, &grid->model);
	if (!status)
		status = rdt_comm_split(comm, rank % parts, rank, &grid->data);
	if (status) {
		rdt_grid_destroy(grid);
		return status;
	}
	*out = grid;
	return 0;
}

rdt_comm *rdt_grid_data(const rdt_grid *grid)
{
	return grid ? grid->data : NULL;
}

rdt_comm *rdt_grid_model(const rdt_grid *grid)
{
	return grid ? grid->model : NULL;
}

void rdt_grid_destroy(rdt_grid *grid)
{
	if (!grid)
		return;
	rdt_comm_destroy(grid->data);
	rdt_comm_destroy(grid->model);
	free(grid);
}

size_t rdt_part(size_t count, int parts, int part, size_t *first)
{
	size_t n = parts > 0 ? (size_t)parts : 1, p = part > 0 ? (size_t)part : 0;
	size_t each = count / n, more = count % n;

	if (first)
		*first = each * p + (p < more ? p : more);
	return each + (p < more);
}

int rdt_part_layers(const int *width, int n_layers, int parts, int part,
		    struct rdt_layer_part *layers)
{
	if (!width || !layers || n_layers < 1 || parts < 1 || part < 0 || part >= parts)
		return rdt_set_error(RDT_ERR_INVALID,
				     "rdt_part_layers: part %d of %d of %d layers: there is none",
				     part, parts, n_layers);
	for (int l = 0; l <= n_layers; l++)
		if (width[l] < 1)
			return rdt_set_error(
				RDT_ERR_INVALID,
				"rdt_part_layers: width %d is %d; it must be 1 or more", l,
				width[l]);
	for (int l = 0; l < n_layers; l++) {
		struct rdt_layer_part *layer = &layers[l];
		size_t first;

		*layer = (struct rdt_layer_part){ .n_in = width[l], .n_out = width[l + 1] };
		if (parts == 1 || (l % 2 == 0 && l + 1 == n_layers))
			continue;
		if (l % 2 == 0) {
			layer->split = RDT_SPLIT_COLUMNS;
			layer->n_out = (int)rdt_part((size_t)width[l + 1], parts, part, &first);
			layer->first_out = (int)first;
		} else {
			layer->split = RDT_SPLIT_ROWS;
			layer->n_in = (int)rdt_part((size_t)width[l], parts, part, &first);
			layer->first_in = (int)first;
		}
		if (width[l + (l % 2 == 0)] < parts)
			return rdt_set_error(RDT_ERR_INVALID,
					     "rdt_part_layers: layer %d is %d wide, too narrow for "
					     "%d parts",
					     l, width[l + (l % 2 == 0)], parts);
	}
	return 0;
}
