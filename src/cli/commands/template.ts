// `longline template`: named session specs kept on the controller, in versions that never change.
import { create } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { PutTemplateRequestSchema } from '#gen/longline/fleet/v1/session_service_pb.js';
import { withFleet } from '../fleet-connection.ts';
import { type CliIo, toJson } from '../io.ts';
import { countValue } from '../option-values.ts';
import { readPages } from '../paging.ts';
import { templateColumns } from '../session/columns.ts';
import { readSpecFile } from '../session/spec-file.ts';
import { templateView } from '../session/views.ts';
import { plainText } from '../table.ts';

const EXAMPLE = `
A file is TOML, or JSON if it ends in .json, with the fields of a session spec:

  description = "A small desktop."
  image = "desktop:1"
  env = { LANG = "C.UTF-8" }
  start_timeout = "90s"
  [resources]
  cpus = 2
  memory = "2GiB"
  [vnc]
  port = 5900
  [[volumes]]
  name = "home"
  scope = "owner"
  target = "/home/user"
  [idle]
  pause_after = "15m"
  stop_after = "2h"
  [health_check.tcp]
  port = 5900

Example:
  longline template put desktop desktop.toml
  longline session start --any "*" --template desktop --owner alice`;

/** Adds `template`. */
export function registerTemplateCommands(program: Command, io: CliIo): void {
  const template = program
    .command('template')
    .description('Keep session specs on the controller, by name and version.')
    .addHelpText('after', '\nExample:\n  longline template put desktop desktop.toml');
  template
    .command('put <name> <file>')
    .description('Make a template or a new version of one. The same content again changes nothing.')
    .option(
      '--base <version>',
      'only if this is the latest version; 0 if there must be none',
      countValue(0, 1_000_000_000),
    )
    .addHelpText('after', EXAMPLE)
    .action(async (name: string, path: string, { base }: { base?: number }, command: Command) => {
      const { spec, description } = await readSpecFile(path);
      const request = create(PutTemplateRequestSchema, { name, spec, description });
      if (base !== undefined) request.baseVersion = base;
      const answer = await withFleet(io, command, (fleet) => fleet.sessions.putTemplate(request));
      const made = answer.template!;
      await io.result({ ...templateView(made), changed: answer.changed }, () =>
        plainText(`${made.name}:${made.version}${answer.changed ? '' : ' (unchanged)'}`),
      );
    });
  template
    .command('ls [name]')
    .description('List the latest versions of all templates, or all versions of one.')
    .action(async (name: string | undefined, _options: object, command: Command) => {
      const templates = await withFleet(io, command, (fleet) =>
        readPages(0, async (pageToken, pageSize) => {
          const page = await fleet.sessions.listTemplates({ name: name ?? '', pageToken, pageSize });
          return { items: page.templates, nextPageToken: page.nextPageToken };
        }),
      );
      if (io.json) return await io.stdout.line(toJson(templates.map(templateView)));
      await io.list(templates, templateColumns(Date.now()), 'no templates; `longline template put` makes one');
    });
  template
    .command('get <name[:version]>')
    .description('Show a template: the latest version, or the one given.')
    .action(async (text: string, _options: object, command: Command) => {
      const [, name = text, version = '0'] = /^([^:]*):(\d{1,9})$/.exec(text) ?? [];
      const request = { name, version: Number(version) };
      const answer = await withFleet(io, command, (fleet) => fleet.sessions.getTemplate(request));
      const view = templateView(answer.template!);
      await io.result(view, () => JSON.stringify(view, undefined, 2));
    });
  template
    .command('rm <name>')
    .description('Forget a template with all its versions. Sessions made from it go on.')
    .action(async (name: string, _options: object, command: Command) => {
      await withFleet(io, command, (fleet) => fleet.sessions.deleteTemplate({ name }));
      await io.result({ name, deleted: true }, () => plainText(`${name} deleted`));
    });
}
