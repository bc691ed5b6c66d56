/* SPDX-License-Identifier: BSD-3-Clause */
/* The commands of the program `rdtrain`: one file each, listed in main.c. */
#ifndef RDT_COMMANDS_H
#define RDT_COMMANDS_H

/* argv[0] is the command's name as help texts show it, "rdtrain run"; the return value is the
 * program's exit status. */
int rdt_cmd_run(int argc, char **argv);
int rdt_cmd_rendezvous(int argc, char **argv);
int rdt_cmd_perf(int argc, char **argv);
int rdt_cmd_info(int argc, char **argv);
int rdt_cmd_verify(int argc, char **argv);
int rdt_cmd_simulate(int argc, char **argv);

#endif
