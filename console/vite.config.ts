import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import react from '@vitejs/plugin-react';
import { defineConfig, type Plugin } from 'vite';

const OUT = 'dist';
// It is in the repository, so that there is always a folder to embed.
const KEPT = '.gitkeep';

/** Scripts, styles and pictures are kept compressed only: every browser takes them so, and the binary carries them once. */
function compressed(): Plugin {
  return {
    name: 'compressed',
    apply: 'build',
    buildStart() {
      mkdirSync(OUT, { recursive: true });
      for (const name of readdirSync(OUT)) {
        if (name !== KEPT) rmSync(join(OUT, name), { recursive: true });
      }
    },
    closeBundle() {
      for (const name of readdirSync(OUT, { recursive: true, encoding: 'utf8' })) {
        if (!/\.(js|css|svg)$/.test(name)) continue;
        const path = join(OUT, name);
        writeFileSync(`${path}.gz`, gzipSync(readFileSync(path), { level: 9 }));
        rmSync(path);
      }
    },
  };
}

export default defineConfig({
  base: './',
  plugins: [react(), compressed()],
  build: { outDir: OUT, emptyOutDir: false, assetsInlineLimit: 0, chunkSizeWarningLimit: 700 },
  // `npm run dev` shows the control plane that runs on this machine.
  server: { proxy: { '/api': 'http://127.0.0.1:20001' } },
});
